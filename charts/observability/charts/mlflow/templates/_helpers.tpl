{{/*
mlflow.fullname: name of every object. 55 characters hold any release name (53 at most).
in: root context   out: "<release>-mlflow", or "<release>" when it contains the name already
*/}}
{{- define "mlflow.fullname" -}}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- coalesce .Values.fullnameOverride $default | trunc 55 | trimSuffix "-" -}}
{{- end -}}

{{/*
mlflow.selectorLabels: the labels that select our pods; immutable once installed.
in: root context   out: YAML map
*/}}
{{- define "mlflow.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/*
mlflow.labels: labels of every object.
in: root context   out: YAML map
*/}}
{{- define "mlflow.labels" -}}
{{ include "mlflow.selectorLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end -}}

{{/*
mlflow.serviceAccountName: the account the pods run as.
in: root context   out: a name
*/}}
{{- define "mlflow.serviceAccountName" -}}
{{- $default := ternary (include "mlflow.fullname" .) "default" .Values.serviceAccount.create -}}
{{- coalesce .Values.serviceAccount.name $default -}}
{{- end -}}

{{/*
mlflow.image: reference the kubelet pulls. A digest, when set, wins over the tag.
in: root context   out: "registry/repository:tag" or "registry/repository@sha256:…"
*/}}
{{- define "mlflow.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ coalesce .tag $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{/*
mlflow.allowedHosts: Host headers the server answers. Setting any replaces MLflow's own list, and a name without a port
does not match the same name with one; so each way in is listed twice: the Service's names, localhost for port-forwards,
and the pod's address (IPv4, IPv6) for Prometheus.
in: root context   out: comma-separated list; $(POD_IP) is filled in by the kubelet
*/}}
{{- define "mlflow.allowedHosts" -}}
{{- $hosts := list "localhost" "localhost:*" "127.0.0.1" "127.0.0.1:*" -}}
{{- $name := include "mlflow.fullname" . -}}
{{- $local := printf "%s.%s" $name .Release.Namespace -}}
{{- range list $name $local (printf "%s.svc" $local) (printf "%s.svc.%s" $local .Values.server.clusterDomain) -}}
{{- $hosts = concat $hosts (list . (printf "%s:%v" . $.Values.service.port)) -}}
{{- end -}}
{{- $hosts = concat $hosts (list "$(POD_IP)" "$(POD_IP):5000" "[$(POD_IP)]:5000") .Values.server.extraAllowedHosts -}}
{{- join "," $hosts -}}
{{- end -}}

{{/*
mlflow.env: environment that the migration and the server share.
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
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}
