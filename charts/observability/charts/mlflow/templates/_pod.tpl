{{/*
mlflow.container: what every container of ours has: the image and its security.
in: root context   out: YAML map
*/}}
{{- define "mlflow.container" -}}
{{- with .Values.image -}}
image: {{ with .registry }}{{ . }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ coalesce .tag $.Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ .pullPolicy }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end -}}

{{/*
mlflow.pod: what every pod of ours has. No Service links: one of a Service named "mlflow" would be MLFLOW_PORT=tcp://…, which
the server reads as its own setting.
in: root context   out: YAML map
*/}}
{{- define "mlflow.pod" -}}
serviceAccountName: {{ include "mlflow.serviceAccountName" . | quote }}
automountServiceAccountToken: {{ .Values.serviceAccount.automountServiceAccountToken }}
enableServiceLinks: false
{{- $settings := pick .Values "imagePullSecrets" "nodeSelector" "tolerations" "priorityClassName" "runtimeClassName" }}
{{- range $key, $value := set $settings "securityContext" .Values.podSecurityContext }}
{{- with $value }}
{{ dict $key . | toYaml }}
{{- end }}
{{- end }}
{{- end -}}
