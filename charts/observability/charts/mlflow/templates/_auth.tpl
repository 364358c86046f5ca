{{/*
mlflow.authEnv: what the preparation and the server need to ask callers for a user and password.
in: root context   out: YAML list, empty while auth is off
*/}}
{{- define "mlflow.authEnv" -}}
{{- with .Values.auth -}}
{{- if .enabled -}}
- name: MLFLOW_AUTH_CONFIG_PATH
  value: /etc/mlflow/basic_auth.ini
{{- $secret := .existingSecret }}
{{- range $name, $key := dict "MLFLOW_AUTH_ADMIN_USERNAME" .usernameKey "MLFLOW_AUTH_ADMIN_PASSWORD" .passwordKey "MLFLOW_FLASK_SERVER_SECRET_KEY" .secretKeyKey }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {{ dict "name" $secret "key" $key | toJson }}
{{- end }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
mlflow.clientEnv: how a pod of ours calls the server: its address and, with auth, the administrator.
in: root context   out: YAML list
*/}}
{{- define "mlflow.clientEnv" -}}
- name: MLFLOW_TRACKING_URI
  value: http://{{ include "mlflow.fullname" . }}.{{ .Release.Namespace }}.svc.{{ .Values.server.clusterDomain }}:{{ .Values.service.port }}
{{- with .Values.auth }}
{{- if .enabled }}
{{- $secret := .existingSecret }}
{{- range $name, $key := dict "MLFLOW_TRACKING_USERNAME" .usernameKey "MLFLOW_TRACKING_PASSWORD" .passwordKey }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {{ dict "name" $secret "key" $key | toJson }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
