{{/*
model-service.canary: values with which the release's own templates render the canary: those of the release, with its own names,
model and number of pods. What can exist only once per release is left out: the autoscaler, follower, challenger, jobs and claim.
in: root context   out: YAML map, or "" without a canary
*/}}
{{- define "model-service.canary" -}}
{{- $canary := .Values.canary | default dict -}}
{{- if $canary.enabled -}}
{{- $values := deepCopy .Values -}}
{{- $account := include "model-service.serviceAccountName" . -}}
{{- $_ := set $values "serviceAccount" (merge (dict "name" $account) ($values.serviceAccount | default dict)) -}}
{{- $_ = set $values "nameOverride" (printf "%s-canary" (include "model-service.name" .)) -}}
{{- $_ = set $values "fullnameOverride" (printf "%s-canary" (include "model-service.fullname" .)) -}}
{{- $_ = set $values "replicaCount" $canary.replicaCount -}}
{{- range $key := list "autoscaling" "canary" "challenger" "training" }}{{ $_ = set $values $key dict }}{{ end -}}
{{- $_ = set $values "service" (omit $values.service "externalTrafficPolicy" "loadBalancerClass" "nodePort" "type") -}}
{{- $_ = set $values "podDisruptionBudget" (dict "enabled" (dig "enabled" false ($values.podDisruptionBudget | default dict)) "maxUnavailable" 1) -}}
{{- $own := $canary.model | default dict -}}
{{- $_ = set $values "model" (merge (dict "uri" ($own.uri | default "") "sha256" ($own.sha256 | default "")) (omit $values.model "cache" "follow" "sha256" "uri")) -}}
{{- toYaml $values -}}
{{- end -}}
{{- end -}}
