{{/*
model-service.name: value of the label `app.kubernetes.io/name`.
in: root context   out: the chart's name or its override
*/}}
{{- define "model-service.name" -}}
{{- coalesce .Values.nameOverride .Chart.Name -}}
{{- end -}}

{{/*
model-service.fullname: name of every object. 55 characters leave room for the longest suffix ("-predict") within 63 and fit
any release name (53 at most), so that two releases never share a name.
in: root context   out: "<release>-<name>", or "<release>" if that contains the name
*/}}
{{- define "model-service.fullname" -}}
{{- $name := include "model-service.name" . -}}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- coalesce .Values.fullnameOverride $default | trunc 55 | trimSuffix "-" -}}
{{- end -}}

{{/*
model-service.namespace: namespace of the objects.
in: root context   out: the release namespace or its override
*/}}
{{- define "model-service.namespace" -}}
{{- coalesce .Values.namespaceOverride .Release.Namespace -}}
{{- end -}}

{{/*
model-service.selectorLabels: labels that select the pods. They are immutable after the installation.
in: root context   out: YAML map
*/}}
{{- define "model-service.selectorLabels" -}}
app.kubernetes.io/name: {{ include "model-service.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/*
model-service.metadata: metadata of an object. Its own labels and annotations override the chart's, which override the common
ones.
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
  {{- merge (dict) (default (dict) $own.labels) $labels (include "model-service.selectorLabels" $root | fromYaml) ($root.Values.commonLabels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (default (dict) $own.annotations) ($root.Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
model-service.serviceAccountName: account that the pods run as.
in: root context   out: a name
*/}}
{{- define "model-service.serviceAccountName" -}}
{{- $account := .Values.serviceAccount | default dict -}}
{{- coalesce $account.name (ternary (include "model-service.fullname" .) "default" (default false $account.create)) -}}
{{- end -}}

{{/*
model-service.image: image reference. A digest takes precedence over the tag, and the global registry over the image's own.
in: list of the root context and the image's values   out: "registry/repository:tag" or "registry/repository@sha256:…"
*/}}
{{- define "model-service.image" -}}
{{- $root := first . -}}
{{- with last . -}}
{{- with coalesce ($root.Values.global).imageRegistry .registry }}{{ . }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ coalesce .tag $root.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{/*
model-service.podSettings: scheduling and security of a pod, from `pod`, and the global pull secrets. Empty values are left out.
in: list of the root context and the names of the keys   out: YAML map
*/}}
{{- define "model-service.podSettings" -}}
{{- $values := (first .).Values -}}
{{- $pod := omit ($values.pod | default dict) "imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat (($values.global).imagePullSecrets | default list) (($values.pod).imagePullSecrets | default list) -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- $_ := set $pod "imagePullSecrets" ($secrets | uniq) -}}
{{- range $key := rest . | sortAlpha }}
{{- with get $pod $key }}
{{ dict $key . | toYaml }}
{{- end }}
{{- end }}
{{- end -}}
