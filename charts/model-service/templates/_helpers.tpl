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
model-service.selectorLabels: the labels that select our pods; immutable once installed.
in: root context   out: YAML map
*/}}
{{- define "model-service.selectorLabels" -}}
app.kubernetes.io/name: {{ include "model-service.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/*
model-service.labels: labels of every object; the chart's own win over the user's.
in: root context   out: YAML map
*/}}
{{- define "model-service.labels" -}}
{{- $own := include "model-service.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63) -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- merge $own .Values.commonLabels | toYaml -}}
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
{{- $default := ternary (include "model-service.fullname" .) "default" .Values.serviceAccount.create -}}
{{- coalesce .Values.serviceAccount.name $default -}}
{{- end -}}

{{/*
model-service.image: reference the kubelet pulls. A digest, when set, wins over the tag.
in: root context   out: "registry/repository:tag" or "registry/repository@sha256:…"
*/}}
{{- define "model-service.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ coalesce .tag $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}
