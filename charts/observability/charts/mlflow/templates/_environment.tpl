{{/*
mlflow.env: environment that the preparation, the server and garbage collection share.
in: root context   out: YAML list
*/}}
{{- define "mlflow.env" -}}
- name: HOME
  value: /home/mlflow
- name: MLFLOW_DISABLE_TELEMETRY
  value: "true"
- name: MLFLOW_BACKEND_STORE_URI
  {{- with .Values.mlflow.backendStoreUriFrom }}
  valueFrom:
    {{- toYaml . | nindent 4 }}
  {{- else }}
  value: {{ coalesce .Values.mlflow.backendStoreUri "sqlite:////mlflow/mlflow.db" | quote }}
  {{- end }}
- name: MLFLOW_ARTIFACTS_DESTINATION
  value: {{ coalesce .Values.mlflow.artifactsDestination "/mlflow/artifacts" | quote }}
{{- with .Values.s3 }}
{{- range $name, $value := dict "MLFLOW_S3_ENDPOINT_URL" .endpointUrl "AWS_DEFAULT_REGION" .region }}
{{- with $value }}
- name: {{ $name }}
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
mlflow.envFrom: Secrets and ConfigMaps whose keys are environment variables.
in: root context   out: YAML map, empty when there are none
*/}}
{{- define "mlflow.envFrom" -}}
{{- $sources := .Values.envFrom -}}
{{- with .Values.s3.existingSecret -}}
{{- $sources = prepend $sources (dict "secretRef" (dict "name" .)) -}}
{{- end -}}
{{- with $sources -}}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

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
