{{/*
model-service.replicas: number of pods that the Deployment states. With an autoscaler it states none, unless its last manifest
did: a manifest that drops the field resets it to one pod. Then the number of now stays, with Helm 3 for good, and with
server-side apply until the autoscaler has changed it and thus owns the field.
in: root context   out: a number, or "" without the field
*/}}
{{- define "model-service.replicas" -}}
{{- if not (.Values.autoscaling).enabled -}}
{{- toJson .Values.replicaCount | replace "null" "" -}}
{{- else -}}
{{- $live := lookup "apps/v1" "Deployment" (include "model-service.namespace" .) (include "model-service.fullname" .) -}}
{{- $stated := and $live (not (hasKey ($live.metadata.annotations | default dict) "model-service/autoscaled")) -}}
{{- range ($live.metadata).managedFields -}}
{{- $fields := dig "f:spec" (dict) (.fieldsV1 | default dict) -}}
{{- if and (eq .operation "Apply") (hasKey $fields "f:template") -}}
{{- $stated = and $stated (hasKey $fields "f:replicas") -}}
{{- end -}}
{{- end -}}
{{- if $stated }}{{ $live.spec.replicas }}{{ end -}}
{{- end -}}
{{- end -}}
