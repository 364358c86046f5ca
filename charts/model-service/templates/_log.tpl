{{/*
model-service.log: what a pod needs for an inference log in Parquet: a sidecar of the training image, which ends after the service,
and the volumes of segments and of a claim.
in: root context   out: YAML map with initContainers and volumes, or "" without such a log
*/}}
{{- define "model-service.log" -}}
{{- $payload := (.Values.logging).payload | default dict -}}
{{- if eq (toString $payload.sink) "parquet" -}}
{{- $log := $payload.parquet | default dict -}}
{{- $claim := include "model-service.log.claim" . -}}
{{- $limit := (.Values.emptyDirSizeLimits).payload | default (mulf 1.25 (default 268435456 $log.bufferBytes) | int64 | toString) -}}
initContainers:
  - name: log-shipper
    restartPolicy: Always
    image: {{ include "model-service.image" (list . .Values.jobs.image) | quote }}
    {{- with .Values.jobs.image.pullPolicy }}
    imagePullPolicy: {{ . }}
    {{- end }}
    {{- with .Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    command: [/opt/venv/bin/python, -m, training, ship]
    env:
      - {name: TRAINING_SEGMENTS, value: /var/lib/model-service/payload}
      - name: TRAINING_LOG_URI
        value: {{ ternary (regexReplaceAll "^pvc://[^/]*" (default "" $log.uri) "file:///log") $log.uri (not (empty $claim)) | default "" | quote }}
      - name: TRAINING_POD
        valueFrom: {fieldRef: {fieldPath: metadata.name}}
      - {name: TRAINING_RETENTION_DAYS, value: {{ $log.retentionDays | default 0 | toJson | quote }}}
      - {name: TRAINING_TAKE_OPEN, value: "true"}
      {{- with .Values.mlflow.caBundle }}
      {{- if .existingConfigMap }}
      - {name: SSL_CERT_FILE, value: {{ printf "/etc/model-service/ca/%s" .key | quote }}}
      {{- end }}
      {{- end }}
      {{- with concat (.Values.extraEnv | default list) ($log.extraEnv | default list) }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with concat (.Values.extraEnvFrom | default list) ($log.extraEnvFrom | default list) }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    terminationMessagePolicy: FallbackToLogsOnError
    {{- with $log.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - {name: payload, mountPath: /var/lib/model-service/payload}
      - {name: tmp, mountPath: /tmp}
      {{- if $claim }}
      - {name: log, mountPath: /log}
      {{- end }}
      {{- if (.Values.mlflow.caBundle).existingConfigMap }}
      - {name: mlflow-ca, mountPath: /etc/model-service/ca, readOnly: true}
      {{- end }}
      {{- with .Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - {name: payload, emptyDir: {sizeLimit: {{ $limit | quote }}}}
  {{- with $claim }}
  - {name: log, persistentVolumeClaim: {claimName: {{ . | quote }}}}
  {{- end }}
{{- end -}}
{{- end -}}

{{/*
model-service.log.claim: claim of an inference log.
in: root context   out: name, or "" if the log is elsewhere
*/}}
{{- define "model-service.log.claim" -}}
{{- with (((.Values.logging).payload).parquet).uri -}}
{{- if hasPrefix "pvc://" . }}{{ regexReplaceAll "^pvc://([^/]*).*$" . "${1}" }}{{ end -}}
{{- end -}}
{{- end -}}

{{/*
model-service.log.server: server of an inference log in object storage.
in: root context   out: URI, or "" if there is none
*/}}
{{- define "model-service.log.server" -}}
{{- $payload := (.Values.logging).payload | default dict -}}
{{- $log := $payload.parquet | default dict -}}
{{- if and (eq (toString $payload.sink) "parquet") (regexMatch "^(s3|gs|az)://" (default "" $log.uri)) -}}
{{- include "model-service.storage" (list $log.uri (concat (.Values.extraEnv | default list) ($log.extraEnv | default list))) -}}
{{- end -}}
{{- end -}}

{{/*
model-service.log.validate: fail if an inference log cannot work, with the reason and the remedy.
in: root context   out: nothing
*/}}
{{- define "model-service.log.validate" -}}
{{- $payload := (.Values.logging).payload | default dict -}}
{{- if eq (toString $payload.sink) "parquet" -}}
{{- $uri := ($payload.parquet).uri | default "" -}}
{{- if not $payload.sampleRatio -}}
{{- fail "logging.payload.sink=parquet requires logging.payload.sampleRatio above 0: set it to 1 to log all requests, or set logging.payload.sink=stdout." -}}
{{- end -}}
{{- if not (regexMatch "^((s3|gs|az)://[A-Za-z0-9][A-Za-z0-9_.-]*(/[^/]+)*/?|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[^/]+)*/?|file:///.+)$" $uri) -}}
{{- fail (printf "logging.payload.parquet.uri=%s is not valid: use s3://<bucket>/<path>, gs://<bucket>/<path>, az://<container>/<path>, pvc://<claim>/<path> or file:///<folder>." $uri) -}}
{{- end -}}
{{- if regexMatch "/[.][.]?(/|$)" $uri -}}
{{- fail (printf "logging.payload.parquet.uri=%s is not valid: remove the relative parts of the path." $uri) -}}
{{- end -}}
{{- end -}}
{{- end -}}
