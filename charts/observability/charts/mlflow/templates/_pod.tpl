{{/*
mlflow.image: image reference. A digest takes precedence over the tag, and the global registry over the image's own.
in: root context   out: "registry/repository:tag" or "registry/repository@sha256:…"
*/}}
{{- define "mlflow.image" -}}
{{- with .Values.image -}}
{{- with coalesce ($.Values.global).imageRegistry .registry }}{{ . }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ coalesce .tag $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{/*
mlflow.container: image and security context, which every container of the chart shares.
in: root context   out: YAML map
*/}}
{{- define "mlflow.container" -}}
{{- with .Values.image -}}
image: {{ include "mlflow.image" $ | quote }}
{{- with .pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end -}}

{{/*
mlflow.pod: settings that every pod of the chart shares. Keys of the pod's own values replace those in `pod`. Service links are
off: a Service named "mlflow" would set MLFLOW_PORT=tcp://…, which the server reads as its own setting.
in: list of the root context and the pod's own values   out: YAML map
*/}}
{{- define "mlflow.pod" -}}
{{- $own := last . | default dict -}}
{{- with first . -}}
serviceAccountName: {{ include "mlflow.serviceAccountName" . | quote }}
automountServiceAccountToken: {{ (.Values.serviceAccount).automount | default false }}
enableServiceLinks: false
{{- $pod := omit (.Values.pod | default dict) "affinity" }}
{{- range $key, $value := $own }}
{{- if not (kindIs "invalid" $value) }}
{{- $_ := set $pod $key $value }}
{{- end }}
{{- end }}
{{- $security := $pod.securityContext | default dict }}
{{- if not $security.fsGroup }}
{{- /* Null cannot remove a default from the values of a parent chart, so an empty text does. */}}
{{- $security = omit $security "fsGroup" }}
{{- end }}
{{- $secrets := list }}
{{- range concat ((.Values.global).imagePullSecrets | default list) ($pod.imagePullSecrets | default list) }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- $settings := pick $pod "affinity" "nodeSelector" "priorityClassName" "runtimeClassName" "schedulerName" "tolerations" }}
{{- range $key, $value := merge $settings (dict "securityContext" $security "imagePullSecrets" ($secrets | uniq)) }}
{{- with $value }}
{{ dict $key . | toYaml }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{/*
mlflow.emptyDirs: emptyDir volumes, with their limits in `emptyDirSizeLimits`.
in: list of the root context and the names of the volumes   out: YAML list
*/}}
{{- define "mlflow.emptyDirs" -}}
{{- $limits := (first .).Values.emptyDirSizeLimits | default dict -}}
{{- $volumes := list -}}
{{- range rest . -}}
{{- $limit := get $limits . -}}
{{- $volumes = append $volumes (dict "name" . "emptyDir" (ternary dict (dict "sizeLimit" $limit) (empty $limit))) -}}
{{- end -}}
{{- toYaml $volumes -}}
{{- end -}}
