{{/*
model-service.name: what `app.kubernetes.io/name` says.
in: root context   out: the chart's name or its override
*/}}
{{- define "model-service.name" -}}
{{- coalesce .Values.nameOverride .Chart.Name -}}
{{- end -}}

{{/*
model-service.fullname: name of every object. 55 characters leave room for the longest suffix ("-predict") within 63,
and hold any release name (53 at most), so that two releases never share a name.
in: root context   out: "<release>-<name>", or "<release>" when it contains the name already
*/}}
{{- define "model-service.fullname" -}}
{{- $name := include "model-service.name" . -}}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- coalesce .Values.fullnameOverride $default | trunc 55 | trimSuffix "-" -}}
{{- end -}}

{{/*
model-service.namespace: where the objects live.
in: root context   out: the release's namespace or its override
*/}}
{{- define "model-service.namespace" -}}
{{- coalesce .Values.namespaceOverride .Release.Namespace -}}
{{- end -}}

{{/*
model-service.selectorLabels: the labels that select our pods; immutable once installed.
in: root context   out: YAML map
*/}}
{{- define "model-service.selectorLabels" -}}
app.kubernetes.io/name: {{ include "model-service.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/*
model-service.metadata: of an object. Its own labels and annotations win over the chart's, and those over the common ones.
in: list of the root context and a map with any of name, namespace, labels, annotations   out: YAML map
*/}}
{{- define "model-service.metadata" -}}
{{- $root := index . 0 -}}{{- $own := index . 1 -}}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 -}}
{{- $labels := dict "helm.sh/chart" $chart "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $labels = merge $labels (dict "app.kubernetes.io/managed-by" $root.Release.Service) -}}
name: {{ coalesce $own.name (include "model-service.fullname" $root) | quote }}
namespace: {{ coalesce $own.namespace (include "model-service.namespace" $root) | quote }}
labels:
  {{- merge (dict) (default (dict) $own.labels) $labels (include "model-service.selectorLabels" $root | fromYaml) $root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (dict) (default (dict) $own.annotations) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
model-service.podLabels: labels of the pods. No chart version: a new chart that changes nothing must not restart them.
in: root context   out: YAML map
*/}}
{{- define "model-service.podLabels" -}}
{{- merge (include "model-service.selectorLabels" . | fromYaml) .Values.podLabels .Values.commonLabels | toYaml -}}
{{- end -}}

{{/*
model-service.serviceAccountName: the account the pods run as.
in: root context   out: a name
*/}}
{{- define "model-service.serviceAccountName" -}}
{{- coalesce .Values.serviceAccount.name (ternary (include "model-service.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/*
model-service.image: reference of the service's image.
in: root context   out: as of model-service.reference
*/}}
{{- define "model-service.image" -}}
{{- include "model-service.reference" (list . .Values.image) -}}
{{- end -}}
