{{/*
model-service.worker: what a pod needs to run a model of any flavor: an init container of the service's image that obtains and
verifies the model, one that installs its packages, the container that runs it, and their volumes. The model's containers
have neither the settings nor the credentials of the service.
in: root context   out: YAML map with initContainers, containers and volumes, or "" for XGBoost models
*/}}
{{- define "model-service.worker" -}}
{{- if eq .Values.model.flavor "pyfunc" -}}
{{- $environment := .Values.model.environment | default dict -}}
{{- $init := list (include "model-service.worker.stage" . | fromYaml) -}}
{{- if $environment.install }}{{ $init = append $init (include "model-service.worker.install" . | fromYaml) }}{{ end -}}
initContainers:
  {{- toYaml $init | nindent 2 }}
containers:
  - {{ include "model-service.worker.model" . | nindent 4 | trim }}
volumes:
  {{- include "model-service.emptyDirs" (list . "worker" "model-tmp") | nindent 2 }}
  {{- if $environment.install }}
  {{- with $environment.existingClaim }}
  - name: environments
    persistentVolumeClaim:
      claimName: {{ . | quote }}
  {{- else }}
  {{- include "model-service.emptyDirs" (list $ "environments") | nindent 2 }}
  {{- end }}
  {{- if $environment.lock }}
  - name: lock
    configMap:
      name: {{ include "model-service.fullname" . }}-lock
  {{- end }}
  {{- with ($environment.wheelhouse).existingClaim }}
  - name: wheelhouse
    persistentVolumeClaim:
      claimName: {{ . | quote }}
      readOnly: true
  {{- end }}
  {{- with (($environment.index).caBundle).existingConfigMap }}
  - name: index-ca
    configMap:
      name: {{ . | quote }}
  {{- end }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/*
model-service.worker.stage: init container of the service's image that obtains and verifies the model.
in: root context   out: YAML map
*/}}
{{- define "model-service.worker.stage" -}}
name: stage
image: {{ include "model-service.image" (list . .Values.image) | quote }}
{{- with (.Values.image).pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
workingDir: /app
command: [/opt/venv/bin/python, -m, app.stage]
env:
  {{- range include "model-service.env" . | fromYamlArray }}
  {{- if not (has .name (list "MODEL_SERVICE_API_KEYS_DIR" "MODEL_SERVICE_FEEDBACK_KEYS_DIR" "MODEL_SERVICE_PAYLOAD_DIR")) }}
  - {{ toYaml . | nindent 4 | trim }}
  {{- end }}
  {{- end }}
{{- $sources := .Values.extraEnvFrom | default list }}
{{- with .Values.mlflow.existingSecret }}
{{- $sources = prepend $sources (dict "secretRef" (dict "name" .)) }}
{{- end }}
{{- with $sources }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - {name: cache, mountPath: /var/cache/model-service}
  - {name: tmp, mountPath: /tmp}
  {{- with include "model-service.model.mount" . | fromYaml }}
  - {name: model, mountPath: {{ .mountPath | quote }}, readOnly: true}
  {{- end }}
  {{- if (.Values.mlflow.caBundle).existingConfigMap }}
  - {name: mlflow-ca, mountPath: /etc/model-service/ca, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/*
model-service.worker.install: init container of the model's image that installs the packages with pip.
in: root context   out: YAML map
*/}}
{{- define "model-service.worker.install" -}}
{{- $environment := .Values.model.environment | default dict -}}
name: environment
{{- include "model-service.worker.container" . | nindent 0 }}
command: [python3, -m, model_service_worker.install]
args:
  - --environments=/opt/model-environments
  - --link=/run/model-service/environment
  {{- with $environment.timeoutSeconds }}
  - --seconds={{ . }}
  {{- end }}
  {{- if $environment.lock }}
  - --requirements=/etc/model-service/lock/requirements.txt
  - --require-hashes
  {{- else }}
  - --requirements=/var/cache/model-service/worker/requirements.txt
  {{- end }}
  {{- if $environment.allowSource }}
  - --allow-source
  {{- end }}
  {{- if ($environment.wheelhouse).existingClaim }}
  - --wheelhouse=/opt/wheelhouse
  {{- end }}
  {{- with ($environment.index).url }}
  - --index={{ . }}
  {{- end }}
  {{- if (($environment.index).caBundle).existingConfigMap }}
  - --ca=/etc/model-service/index-ca/{{ (($environment.index).caBundle).key }}
  {{- end }}
env:
  - {name: HOME, value: /tmp}
  {{- with ($environment.index).existingSecret }}
  {{- range $key := list "username" "password" }}
  - name: INDEX_{{ upper $key }}
    valueFrom:
      secretKeyRef:
        name: {{ ($environment.index).existingSecret | quote }}
        key: {{ $key }}
  {{- end }}
  {{- end }}
volumeMounts:
  - {name: cache, mountPath: /var/cache/model-service, readOnly: true}
  - {name: worker, mountPath: /run/model-service}
  - {name: environments, mountPath: /opt/model-environments}
  - {name: model-tmp, mountPath: /tmp}
  {{- if $environment.lock }}
  - {name: lock, mountPath: /etc/model-service/lock, readOnly: true}
  {{- end }}
  {{- if ($environment.wheelhouse).existingClaim }}
  - {name: wheelhouse, mountPath: /opt/wheelhouse, readOnly: true}
  {{- end }}
  {{- if (($environment.index).caBundle).existingConfigMap }}
  - {name: index-ca, mountPath: /etc/model-service/index-ca, readOnly: true}
  {{- end }}
{{- end -}}

{{/*
model-service.worker.model: container that runs the model.
in: root context   out: YAML map
*/}}
{{- define "model-service.worker.model" -}}
{{- $installed := not (empty (.Values.model.environment).install) -}}
name: model
{{- include "model-service.worker.container" . | nindent 0 }}
command: [{{ ternary "/run/model-service/environment/bin/python3" "python3" $installed }}, -m, model_service_worker]
args: [--model=/var/cache/model-service/served, --socket=/run/model-service/socket]
env:
  - {name: HOME, value: /tmp}
  - {name: PYTHONUNBUFFERED, value: "1"}
  - {name: PYTHONDONTWRITEBYTECODE, value: "1"}
  - {name: MLFLOW_DISABLE_TELEMETRY, value: "true"}
  # One OpenMP thread, unless you set more: by default each library would start one per core of the node.
  - {name: OMP_NUM_THREADS, value: "1"}
  {{- with (.Values.model.worker).extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumeMounts:
  - {name: cache, mountPath: /var/cache/model-service, readOnly: true}
  - {name: worker, mountPath: /run/model-service}
  - {name: model-tmp, mountPath: /tmp}
  {{- if $installed }}
  - {name: environments, mountPath: /opt/model-environments, readOnly: true}
  {{- end }}
{{- end -}}

{{/*
model-service.worker.index: package index that the pods of a model connect to.
in: root context   out: URL, or "" if they do not install packages from an index
*/}}
{{- define "model-service.worker.index" -}}
{{- with .Values.model.environment -}}
{{- if and (eq $.Values.model.flavor "pyfunc") .install (not (.wheelhouse).existingClaim) -}}
{{- default "https://pypi.org" (.index).url -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
model-service.worker.container: what the model's containers have in common.
in: root context   out: YAML map
*/}}
{{- define "model-service.worker.container" -}}
{{- $environment := .Values.model.environment | default dict -}}
{{- $image := merge (dict "tag" (default (printf "%s-slim" $environment.python) $environment.image.tag)) $environment.image -}}
{{- $security := .Values.securityContext | default dict | deepCopy -}}
{{- if and $environment.runAsUser (not ((.Values.pod).securityContext).runAsUser) -}}
{{- $_ := set $security "runAsUser" (int $environment.runAsUser) -}}
{{- end -}}
image: {{ include "model-service.image" (list . $image) | quote }}
{{- with $environment.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- with $security }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
workingDir: /var/cache/model-service/worker
terminationMessagePolicy: FallbackToLogsOnError
{{- with (.Values.model.worker).resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
