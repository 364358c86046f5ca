{{/*
mlflow.fullname: name of every object. 55 characters leave room for the longest suffix ("-grafana") within 63, and hold any
release name (53 at most), so that two releases never share a name.
in: root context   out: "<release>-mlflow", or "<release>" when it contains the name already
*/}}
{{- define "mlflow.fullname" -}}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- coalesce .Values.fullnameOverride $default | trunc 55 | trimSuffix "-" -}}
{{- end -}}

{{/*
mlflow.selectorLabels: the labels that select the server's pods; immutable once installed.
in: root context   out: YAML map
*/}}
{{- define "mlflow.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/*
mlflow.metadata: of an object. Its own labels and annotations win over the chart's, and those over the common ones.
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
  {{- merge (dict) (default (dict) $own.labels) $labels (include "mlflow.selectorLabels" $root | fromYaml) $root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (dict) (default (dict) $own.annotations) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
mlflow.serviceAccountName: the account the pods run as.
in: root context   out: a name
*/}}
{{- define "mlflow.serviceAccountName" -}}
{{- coalesce .Values.serviceAccount.name (ternary (include "mlflow.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/*
mlflow.sqlite: whether runs and models are in a SQLite file, which one pod at a time may open.
in: root context   out: "true" or "false"
*/}}
{{- define "mlflow.sqlite" -}}
{{- or (hasPrefix "sqlite" .Values.mlflow.backendStoreUri) (not (or .Values.mlflow.backendStoreUri .Values.mlflow.backendStoreUriFrom)) -}}
{{- end -}}
