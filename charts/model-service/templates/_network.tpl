{{/*
model-service.egress: egress rules for DNS, for servers and from `networkPolicy.extraEgress`. Policies apply to pods, not
Services: a host `<service>.<namespace>.svc…` allows that namespace, a bare name the release's own, any other all addresses.
in: list of the root context and a list of maps with uri and, if the pods listen on a different one, port   out: YAML list
*/}}
{{- define "model-service.egress" -}}
{{- $root := first . -}}{{- $policy := $root.Values.networkPolicy -}}{{- $rules := list -}}
{{- with $policy.dnsTo -}}
{{- $ports := list -}}
{{- range $policy.dnsPorts | default (list 53) }}{{ $ports = concat $ports (list (dict "port" . "protocol" "UDP") (dict "port" . "protocol" "TCP")) }}{{ end -}}
{{- $rules = append $rules (dict "to" . "ports" $ports) -}}
{{- end -}}
{{- range last . -}}
{{- $server := regexReplaceAll "^https?://([^/]*).*$" .uri "${1}" -}}
{{- $host := regexReplaceAll ":[0-9]*$" $server "" -}}
{{- $given := regexFind ":[0-9]+$" $server | trimPrefix ":" | int -}}
{{- $rule := dict "ports" (list (dict "port" (coalesce .port $given (ternary 443 80 (hasPrefix "https:" .uri))))) -}}
{{- $namespace := ternary "" (include "model-service.namespace" $root) (regexMatch "[.:]" $host) -}}
{{- if regexMatch "^[^.]+[.][^.]+[.]svc([.]|$)" $host -}}
{{- $namespace = index (splitList "." $host) 1 -}}
{{- end -}}
{{- with $namespace -}}
{{- $_ := set $rule "to" (list (dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .)))) -}}
{{- end -}}
{{- $rules = append $rules $rule -}}
{{- end -}}
{{- with concat $rules ($policy.extraEgress | default list) }}{{ toYaml . }}{{ else }}[]{{ end -}}
{{- end -}}

{{/*
model-service.job.network: NetworkPolicy of a job's pods. They accept no connections except those between workers, and they
connect to MLflow.
in: list of the root context and the kind   out: YAML map, the spec of a NetworkPolicy
*/}}
{{- define "model-service.job.network" -}}
{{- $root := first . -}}
{{- $labels := include "model-service.job.labels" . | fromYaml -}}
{{- $workers := and (eq (last .) "train") (gt (int $root.Values.training.workers) 1) -}}
{{- $each := list (dict "podSelector" (dict "matchLabels" $labels)) -}}
{{- $servers := list -}}
{{- with $root.Values.mlflow.trackingUri }}{{ $servers = list (dict "uri" . "port" $root.Values.networkPolicy.mlflowPort) }}{{ end -}}
{{- $out := include "model-service.egress" (list $root $servers) | fromYamlArray -}}
podSelector:
  matchLabels:
    {{- toYaml $labels | nindent 4 }}
policyTypes: [Ingress, Egress]
ingress:
  {{- ternary (list (dict "from" $each)) (list) $workers | toYaml | nindent 2 }}
egress:
  {{- ternary (append $out (dict "to" $each)) $out $workers | toYaml | nindent 2 }}
{{- end -}}
