{{/*
model-service.monitor: spec of a ServiceMonitor or a PodMonitor.
in: list of the root context and the key of the endpoints   out: YAML map
*/}}
{{- define "model-service.monitor" -}}
{{- $root := first . -}}
{{- $settings := $root.Values.monitoring.serviceMonitor -}}
{{- if $root.Values.monitoring.namespace }}
namespaceSelector:
  matchNames:
    - {{ include "model-service.namespace" $root | quote }}
{{- end }}
selector:
  matchLabels:
    {{- include "model-service.selectorLabels" $root | nindent 4 }}
{{- with $settings.sampleLimit }}
sampleLimit: {{ . | int64 }}
{{- end }}
{{- with $settings.podTargetLabels }}
podTargetLabels:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{ last . }}:
  - port: metrics
    path: /metrics
    {{- range $key, $value := pick $settings "interval" "scheme" "scrapeTimeout" "tlsConfig" "metricRelabelings" }}
    {{- with $value }}
    {{- dict $key . | toYaml | nindent 4 }}
    {{- end }}
    {{- end }}
    relabelings:
      # Series are named after the Service of the API, as the alerts and dashboards expect.
      {{- range $label := list "job" "service" }}
      - targetLabel: {{ $label }}
        replacement: {{ include "model-service.fullname" $root | quote }}
      {{- end }}
      {{- with $settings.relabelings }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end -}}
