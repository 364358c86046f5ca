{{/*
model-service.model.forms: forms of `model.uri`, for messages.
in: nothing   out: text
*/}}
{{- define "model-service.model.forms" -}}
models:/<name>@<alias>, models:/<name>/<version>, models:/m-<id>, runs:/<run>/<path>, mlflow-artifacts:/<path>, s3://<bucket>/<path>, gs://<bucket>/<path>, az://<container>/<path>, https://<host>/<path> with model.sha256, pvc://<claim>/<path>, oci://<image>#<path> or file:///<folder>
{{- end -}}

{{/*
model-service.model.mount: the volume of a model in a claim or an image, mounted read-only.
in: root context   out: YAML map with uri (of the folder in the container), name (of the model), mountPath and volume; empty for
other sources
*/}}
{{- define "model-service.model.mount" -}}
{{- $uri := .Values.model.uri -}}
{{- if hasPrefix "pvc://" $uri -}}
{{- $claim := regexReplaceAll "^pvc://([^/]*).*$" $uri "${1}" -}}
{{- $path := regexReplaceAll "^pvc://[^/]*/?" $uri "" | trimSuffix "/" -}}
{{- $folder := printf "/models/%s" $claim -}}
{{- dict "uri" (printf "file://%s" (list $folder $path | compact | join "/")) "name" (base (default $claim $path)) "mountPath" $folder "volume" (dict "persistentVolumeClaim" (dict "claimName" $claim "readOnly" true)) | toYaml -}}
{{- else if hasPrefix "oci://" $uri -}}
{{- $reference := regexReplaceAll "^oci://([^#]*).*$" $uri "${1}" -}}
{{- $path := regexReplaceAll "^[^#]*#?/?" $uri "" | trimSuffix "/" -}}
{{- $repository := regexReplaceAll "(@sha256:[a-f0-9]+|:[^:/]*)$" $reference "" | base -}}
{{- dict "uri" (printf "file://%s" (list "/models/image" $path | compact | join "/")) "name" $repository "mountPath" "/models/image" "volume" (dict "image" (dict "reference" $reference "pullPolicy" .Values.image.pullPolicy)) | toYaml -}}
{{- end -}}
{{- end -}}

{{/*
model-service.model.volumes: volumes of downloads and of a model that is not downloaded.
in: root context   out: YAML list
*/}}
{{- define "model-service.model.volumes" -}}
{{- with (.Values.model.cache).existingClaim -}}
- name: cache
  persistentVolumeClaim:
    claimName: {{ . | quote }}
{{- else -}}
{{ include "model-service.emptyDirs" (list . "cache") }}
{{- end }}
{{- with include "model-service.model.mount" . | fromYaml }}
- {{ merge (dict "name" "model") .volume | toYaml | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{/*
model-service.model.server: server that the service downloads the model from. The one of an object storage is named by
`extraEnv`, or is the cloud's.
in: root context   out: YAML map with uri and, for MLflow, port; empty for a folder, a claim or an image
*/}}
{{- define "model-service.model.server" -}}
{{- $uri := .Values.model.uri -}}
{{- if regexMatch "^(models|runs|mlflow-artifacts):/" $uri -}}
{{- dict "uri" .Values.mlflow.trackingUri "port" (.Values.networkPolicy).mlflowPort | toYaml -}}
{{- else if regexMatch "^(s3|gs|az)://" $uri -}}
{{- dict "uri" (include "model-service.storage" (list $uri .Values.extraEnv)) | toYaml -}}
{{- else if hasPrefix "https://" $uri -}}
{{- dict "uri" $uri | toYaml -}}
{{- end -}}
{{- end -}}

{{/*
model-service.model.validate: fail if `model.uri` cannot work, with the reason and the remedy.
in: root context, and in `field` the key of the model for messages if it is not `model`   out: nothing
*/}}
{{- define "model-service.model.validate" -}}
{{- $uri := .Values.model.uri -}}{{- $tracking := .Values.mlflow.trackingUri -}}
{{- $field := .field | default "model" -}}
{{- $forms := include "model-service.model.forms" . }}
{{- if not $uri }}
{{- fail (printf "%s.uri is empty: set it to the model to serve, %s." $field $forms) }}
{{- end }}
{{- $scheme := regexFind "^[a-z0-9-]+:/" $uri | trimSuffix ":/" }}
{{- $valid := dict
  "models" (list "^models:/([^/@:]+(@[A-Za-z0-9_-]+|/[1-9][0-9]*)|m-[0-9a-f]{32})$" "models:/<name>@<alias> (letters, digits, _ and -), models:/<name>/<version> (a number from 1) or models:/m-<id>")
  "runs" (list "^runs:/[0-9A-Za-z_-]+(/[^/]+)+/?$" "runs:/<run>/<path>")
  "mlflow-artifacts" (list "^mlflow-artifacts:(/[^/]+)+/?$" "mlflow-artifacts:/<path>")
  "s3" (list "^s3://[A-Za-z0-9][A-Za-z0-9_.-]*(/[^/]+)*/?$" "s3://<bucket>/<path>")
  "gs" (list "^gs://[A-Za-z0-9][A-Za-z0-9_.-]*(/[^/]+)*/?$" "gs://<bucket>/<path>")
  "az" (list "^az://[A-Za-z0-9][A-Za-z0-9_.-]*(/[^/]+)*/?$" "az://<container>/<path>, with the account in AZURE_STORAGE_ACCOUNT_NAME")
  "https" (list "^https://[^/?#@[:space:]]+/[^?#[:space:]]+$" "https://<host>/<path> of the folder, without credentials and without a query")
  "pvc" (list "^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[^/]+)*/?$" "pvc://<claim>/<path>")
  "oci" (list "^oci://[a-z0-9][^#[:space:]]*(#/?[^/]+(/[^/]+)*/?)?$" "oci://<image>, and #<path> if the model is not at its root")
  "file" (list "^file:///." "file:///<folder>")
}}
{{- with get $valid $scheme }}
{{- if or (not (regexMatch (first .) $uri)) (and (ne $scheme "file") (regexMatch "/[.][.]?(/|$)" $uri)) }}
{{- fail (printf "%s.uri=%s is not valid: use %s." $field $uri (last .)) }}
{{- end }}
{{- else }}
{{- fail (printf "%s.uri=%s is not supported: use %s." $field $uri $forms) }}
{{- end }}
{{- if and (has $scheme (list "models" "runs" "mlflow-artifacts")) (not $tracking) }}
{{- fail (printf "%s.uri=%s requires MLflow, but mlflow.trackingUri is empty: set mlflow.trackingUri to the MLflow server, e.g. http://obs-mlflow.monitoring.svc.cluster.local:5000." $field $uri) }}
{{- end }}
{{- if eq $scheme "https" }}
{{- if not .Values.model.sha256 }}
{{- fail (printf "%s.uri=%s requires a pinned digest, because anyone who controls the web server could replace the model: set %s.sha256." $field $uri $field) }}
{{- end }}
{{- if eq .Values.model.flavor "pyfunc" }}
{{- fail (printf "%s.uri=%s cannot be served with model.flavor=pyfunc, because a web server does not list the files of a model: use object storage or MLflow." $field $uri) }}
{{- end }}
{{- end }}
{{- if and (eq $scheme "oci") (semverCompare "<1.33-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "%s.uri=%s requires image volumes, which Kubernetes %s does not have (1.33 or newer; on by default from 1.35): use pvc:// or models:/." $field $uri .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- with .Values.model.cache }}
{{- if and .existingClaim (not (include "model-service.model.server" $)) }}
{{- fail (printf "model.cache.existingClaim=%s has no effect with model.uri=%s, which is not downloaded: remove model.cache.existingClaim." .existingClaim $uri) }}
{{- end }}
{{- end }}

{{- if (.Values.model.follow).enabled }}
{{- if not (regexMatch "^models:/[^/@:]+@" $uri) }}
{{- fail (printf "model.follow.enabled=true requires an alias, but model.uri=%s always names the same model: use models:/<name>@<alias>, or set model.follow.enabled=false." $uri) }}
{{- end }}
{{- if eq .Values.model.flavor "pyfunc" }}
{{- fail "model.follow.enabled=true requires model.flavor=xgboost, because a pyfunc model brings code and packages, which only a new pod installs: set model.follow.enabled=false, and restart the rollout to serve a new version." }}
{{- end }}
{{- if .Values.model.sha256 }}
{{- fail "model.follow.enabled=true contradicts model.sha256, which allows one version only: set model.sha256=\"\" (the digest that training registers is verified regardless), or model.follow.enabled=false." }}
{{- end }}
{{- if not (.Values.model.peers).enabled }}
{{- fail "model.follow.enabled=true requires model.peers.enabled=true, by which all pods refuse the same versions and new pods start with the version that is served: set model.peers.enabled=true." }}
{{- end }}
{{- if kindIs "invalid" (.Values.model.follow).pollSeconds }}
{{- fail "model.follow.enabled=true requires model.follow.pollSeconds: set it to a number of seconds, e.g. 30." }}
{{- end }}
{{- end }}
{{- if and .Values.model.unknownCategory (eq .Values.model.flavor "pyfunc") }}
{{- fail (printf "model.unknownCategory=%s requires model.flavor=xgboost, because a pyfunc model handles its categories itself: leave it empty." .Values.model.unknownCategory) }}
{{- end }}
{{- end -}}
