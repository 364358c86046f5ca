{{/*
mlflow.fullname: name of every object. 55 characters leave room for the longest suffix ("-grafana") within 63 and fit any
release name (53 at most), so that two releases never share a name.
in: root context   out: "<release>-mlflow", or "<release>" if that contains the name
*/}}
{{- define "mlflow.fullname" -}}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- coalesce .Values.fullnameOverride $default | trunc 55 | trimSuffix "-" -}}
{{- end -}}

{{/*
mlflow.selectorLabels: labels that select the server's pods. They are immutable after the installation.
in: root context   out: YAML map
*/}}
{{- define "mlflow.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/*
mlflow.metadata: metadata of an object. Its own labels and annotations override the chart's, which override the common ones.
in: list of the root context and a map with any of name, namespace, labels, annotations   out: YAML map
*/}}
{{- define "mlflow.metadata" -}}
{{- $root := index . 0 -}}{{- $own := index . 1 -}}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 -}}
{{- $labels := dict "helm.sh/chart" $chart "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $labels = merge $labels (dict "app.kubernetes.io/managed-by" $root.Release.Service) -}}
name: {{ coalesce $own.name (include "mlflow.fullname" $root) | quote }}
namespace: {{ coalesce $own.namespace $root.Release.Namespace | quote }}
labels:
  {{- merge (dict) (default (dict) $own.labels) $labels (include "mlflow.selectorLabels" $root | fromYaml) ($root.Values.commonLabels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (default (dict) $own.annotations) ($root.Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
mlflow.serviceAccountName: account that the pods run as.
in: root context   out: a name
*/}}
{{- define "mlflow.serviceAccountName" -}}
{{- $account := .Values.serviceAccount | default dict -}}
{{- coalesce $account.name (ternary (include "mlflow.fullname" .) "default" (default false $account.create)) -}}
{{- end -}}

{{/*
mlflow.sqlite: whether runs and models are stored in a SQLite file, which only one pod at a time may open.
in: root context   out: "true" or "false"
*/}}
{{- define "mlflow.sqlite" -}}
{{- $stores := .Values.mlflow | default dict -}}
{{- or (hasPrefix "sqlite" (toString $stores.backendStoreUri)) (not (or $stores.backendStoreUri $stores.backendStoreUriFrom)) -}}
{{- end -}}
