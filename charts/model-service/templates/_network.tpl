{{/*
model-service.peers: host name of the Service through which pods obtain the model from each other.
in: root context   out: "<fullname>-peers.<namespace>", or "" if they do not
*/}}
{{- define "model-service.peers" -}}
{{- if and (include "model-service.model.server" .) (.Values.model.peers).enabled -}}
{{- printf "%s-peers.%s" (include "model-service.fullname" .) (include "model-service.namespace" .) -}}
{{- end -}}
{{- end -}}

{{/*
model-service.ports: ports of the service's container. The API leads to the first one, Prometheus and probes to the second.
in: root context   out: YAML list
*/}}
{{- define "model-service.ports" -}}
- name: http
  containerPort: 8000
- name: metrics
  containerPort: 8002
{{- if include "model-service.peers" . }}
- name: peers
  containerPort: 8001
{{- end }}
{{- if ((.Values.api).grpc).enabled }}
- name: grpc
  containerPort: 8003
{{- end }}
{{- end -}}

{{/*
model-service.egress: egress rules for DNS, for servers and from `networkPolicy.extraEgress`. Policies apply to pods, not
Services: a host `<service>.<namespace>.svc…` allows that namespace, a bare name the release's own, any other all pods and
addresses except link-local ones, where clouds serve credentials.
in: list of the root context and a list of maps with uri and, if the pods listen on a different one, port   out: YAML list
*/}}
{{- define "model-service.egress" -}}
{{- $root := first . -}}{{- $policy := $root.Values.networkPolicy -}}{{- $rules := list -}}
{{- with $policy.dnsTo -}}
{{- $ports := list -}}
{{- range $policy.dnsPorts | default (list 53) }}{{ $ports = concat $ports (list (dict "port" . "protocol" "UDP") (dict "port" . "protocol" "TCP")) }}{{ end -}}
{{- $rules = append $rules (dict "to" . "ports" $ports) -}}
{{- end -}}
{{- range last . -}}
{{- $server := regexReplaceAll "^https?://([^/]*).*$" .uri "${1}" -}}
{{- $host := regexReplaceAll ":[0-9]*$" $server "" -}}
{{- $given := regexFind ":[0-9]+$" $server | trimPrefix ":" | int -}}
{{- $rule := dict "ports" (list (dict "port" (coalesce .port $given (ternary 443 80 (hasPrefix "https:" .uri))))) -}}
{{- $namespace := ternary "" (include "model-service.namespace" $root) (regexMatch "[.:]" $host) -}}
{{- if regexMatch "^[^.]+[.][^.]+[.]svc([.]|$)" $host -}}
{{- $namespace = index (splitList "." $host) 1 -}}
{{- end -}}
{{- if $namespace -}}
{{- $_ := set $rule "to" (list (dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" $namespace)))) -}}
{{- else -}}
{{- $addresses := list (dict "cidr" "0.0.0.0/0" "except" (list "169.254.0.0/16")) (dict "cidr" "::/0" "except" (list "fe80::/10" "fd00:ec2::/32" "fd20:ce::/32")) -}}
{{- $_ := set $rule "to" (list (dict "namespaceSelector" dict) (dict "ipBlock" (first $addresses)) (dict "ipBlock" (last $addresses))) -}}
{{- end -}}
{{- $rules = append $rules $rule -}}
{{- end -}}
{{- with concat $rules ($policy.extraEgress | default list) }}{{ toYaml . }}{{ else }}[]{{ end -}}
{{- end -}}

{{/*
model-service.storage: server of an object storage: the one that a variable names, or the cloud's.
in: list of a URI (s3://, gs:// or az://) and a list of environment variables   out: URL
*/}}
{{- define "model-service.storage" -}}
{{- $env := dict -}}
{{- range last . }}{{ $_ := set $env (toString .name) (.value | default "") }}{{ end -}}
{{- if hasPrefix "s3:" (first .) -}}
{{- coalesce $env.AWS_ENDPOINT_URL_S3 $env.AWS_ENDPOINT_URL "https://s3.amazonaws.com" -}}
{{- else if hasPrefix "gs:" (first .) -}}
{{- $env.GOOGLE_BASE_URL | default "https://storage.googleapis.com" -}}
{{- else -}}
{{- $env.AZURE_STORAGE_ENDPOINT | default "https://blob.core.windows.net" -}}
{{- end -}}
{{- end -}}

{{/*
model-service.job.servers: servers of a job's data, predictions, checkpoints and model. An S3 server is the one that `extraEnv`
names, or AWS.
in: list of the root context and the kind   out: JSON list of maps with uri
*/}}
{{- define "model-service.job.servers" -}}
{{- $root := first . -}}{{- $train := eq (last .) "train" -}}
{{- $job := include "model-service.job.values" (list $root (ternary "training" "batch" $train)) | fromYaml -}}
{{- $env := dict -}}
{{- range $job.extraEnv }}{{ $_ := set $env (toString .name) (.value | default "") }}{{ end -}}
{{- $settings := ($job.settings).train | default dict -}}
{{- $uris := ternary (list $env.TRAINING_DATA $settings.data $env.TRAINING_FROM_LOG $settings.from_log $env.TRAINING_CHECKPOINTS $settings.checkpoints) (list $job.data $job.output ($job.model | default $root.Values.model.uri)) $train -}}
{{- $servers := list -}}
{{- range $uri := compact $uris -}}
{{- if regexMatch "^(s3|gs|az)://" $uri -}}
{{- $servers = append $servers (dict "uri" (include "model-service.storage" (list $uri $job.extraEnv))) -}}
{{- else if regexMatch "^https?://" $uri -}}
{{- $servers = append $servers (dict "uri" (regexReplaceAll "[?].*$" $uri "")) -}}
{{- end -}}
{{- end -}}
{{- $servers | uniq | toJson -}}
{{- end -}}

{{/*
model-service.job.network: NetworkPolicy of a job's pods. They accept no connections except those between workers, and they
connect to MLflow and to the servers of their data.
in: list of the root context and the kind   out: YAML map, the spec of a NetworkPolicy
*/}}
{{- define "model-service.job.network" -}}
{{- $root := first . -}}
{{- $labels := include "model-service.job.labels" . | fromYaml -}}
{{- $workers := and (eq (last .) "train") (gt (int $root.Values.training.workers) 1) -}}
{{- $each := list (dict "podSelector" (dict "matchLabels" $labels)) -}}
{{- $servers := list -}}
{{- with $root.Values.mlflow.trackingUri }}{{ $servers = list (dict "uri" . "port" $root.Values.networkPolicy.mlflowPort) }}{{ end -}}
{{- $servers = concat $servers (include "model-service.job.servers" . | fromJsonArray) -}}
{{- $index := include "model-service.worker.index" $root -}}
{{- if and $index (eq (last .) "score") }}{{ $servers = append $servers (dict "uri" $index) }}{{ end -}}
{{- $out := include "model-service.egress" (list $root $servers) | fromYamlArray -}}
podSelector:
  matchLabels:
    {{- toYaml $labels | nindent 4 }}
policyTypes: [Ingress, Egress]
ingress:
  {{- ternary (list (dict "from" $each)) (list) $workers | toYaml | nindent 2 }}
egress:
  {{- ternary (append $out (dict "to" $each)) $out $workers | toYaml | nindent 2 }}
{{- end -}}
