{{/*
model-service.callers.configs: ConfigMaps about callers that the service reads, by the folder where it finds them.
in: root context   out: YAML object
*/}}
{{- define "model-service.callers.configs" -}}
{{- if include "model-service.quotas" . }}
quotas: {{ printf "%s-quotas" (include "model-service.fullname" .) | quote }}
{{- end }}
{{- with ((.Values.api).auth).jwt }}
{{- if and .issuer .existingConfigMap }}
jwks: {{ .existingConfigMap | quote }}
{{- end }}
{{- end }}
{{- end -}}
