{{- /* Sidecar of the control plane's own pods; a test compares it with the injector's for the same pod. Takes a map: root, component,
ports (of the containers), and optionally opaque and requireTls (ports). */ -}}

{{- define "mesh.sidecar-annotations" -}}
linkerd.io/proxy-version: {{ .Values.proxy.image.version | default (include "mesh.version" .) | quote }}
{{- with .Values.identityTrustAnchorsPEM }}
linkerd.io/trust-root-sha256: {{ printf "%s\n" (replace "\r" "" . | trim) | sha256sum }}
{{- end }}
# These pods serve policy and sign certificates: they must start and answer before either is available.
config.linkerd.io/default-inbound-policy: all-unauthenticated
config.linkerd.io/proxy-await: disabled
config.linkerd.io/proxy-enable-native-sidecar: "false"
{{- with include "mesh.tap-identity" . }}
viz.linkerd.io/tap-enabled: "true"
{{- end }}
{{- end -}}

{{- define "mesh.sidecar-volumes" -}}
- name: linkerd-identity-end-entity
  emptyDir: {medium: Memory}
{{- if .Values.identity.serviceAccountTokenProjection }}
- name: linkerd-identity-token
  projected:
    sources:
      - serviceAccountToken: {path: linkerd-identity-token, audience: identity.l5d.io, expirationSeconds: 86400}
{{- end }}
{{- end -}}

{{- define "mesh.sidecar-resources" -}}
{{- $cpu := .Values.proxy.resources.cpu }}
{{- $memory := .Values.proxy.resources.memory }}
{{- $storage := index .Values.proxy.resources "ephemeral-storage" }}
{{- if or $cpu.limit $memory.limit $storage.limit $cpu.request $memory.request $storage.request }}
resources:
  {{- if or $cpu.limit $memory.limit $storage.limit }}
  limits:
    {{- with $cpu.limit }}
    cpu: {{ quote . }}
    {{- end }}
    {{- with $memory.limit }}
    memory: {{ quote . }}
    {{- end }}
    {{- with $storage.limit }}
    ephemeral-storage: {{ quote . }}
    {{- end }}
  {{- end }}
  {{- if or $cpu.request $memory.request $storage.request }}
  requests:
    {{- with $cpu.request }}
    cpu: {{ quote . }}
    {{- end }}
    {{- with $memory.request }}
    memory: {{ quote . }}
    {{- end }}
    {{- with $storage.request }}
    ephemeral-storage: {{ quote . }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "mesh.sidecar-init" -}}
{{- $values := .root.Values }}
{{- if $values.cniEnabled -}}
- name: linkerd-network-validator
  image: {{ $values.networkValidator.image.name }}:{{ $values.networkValidator.image.version | default (include "mesh.version" .root) }}
  imagePullPolicy: {{ $values.networkValidator.image.pullPolicy | default $values.imagePullPolicy }}
  terminationMessagePolicy: FallbackToLogsOnError
  args:
    - --log-format
    - {{ quote $values.networkValidator.logFormat }}
    - --log-level
    - {{ quote $values.networkValidator.logLevel }}
    - --connect-addr
    - {{ $values.networkValidator.connectAddr | default (ternary "1.1.1.1:20001" "[fd00::1]:20001" $values.disableIPv6) | quote }}
    - --listen-addr
    - {{ $values.networkValidator.listenAddr | default (printf "%s:%v" (ternary "0.0.0.0" "[::]" $values.disableIPv6) $values.proxy.ports.outbound) | quote }}
    - --timeout
    - {{ quote $values.networkValidator.timeout }}
  {{- include "mesh.sidecar-resources" .root | nindent 2 }}
  securityContext:
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
    readOnlyRootFilesystem: true
    runAsNonRoot: true
    runAsUser: {{ int $values.proxyInit.runAsUser }}
    runAsGroup: {{ int $values.proxyInit.runAsUser }}
    seccompProfile: {type: RuntimeDefault}
{{- else -}}
{{- $user := ternary 0 $values.proxyInit.runAsUser $values.proxyInit.runAsRoot }}
{{- $privileged := and $values.proxyInit.runAsRoot (gt (int $values.proxyInit.closeWaitTimeoutSecs) 0) -}}
- name: linkerd-init
  image: {{ $values.proxyInit.image.name }}:{{ $values.proxyInit.image.version | default (include "mesh.version" .root) }}
  imagePullPolicy: {{ $values.proxyInit.image.pullPolicy | default $values.imagePullPolicy }}
  terminationMessagePolicy: FallbackToLogsOnError
  args:
    {{- if $values.disableIPv6 }}
    - --ipv6=false
    {{- end }}
    - --incoming-proxy-port
    - {{ int $values.proxy.ports.inbound | quote }}
    - --outgoing-proxy-port
    - {{ int $values.proxy.ports.outbound | quote }}
    - --proxy-uid
    - {{ int $values.proxy.uid | quote }}
    {{- if ge (int $values.proxy.gid) 0 }}
    - --proxy-gid
    - {{ int $values.proxy.gid | quote }}
    {{- end }}
    - --inbound-ports-to-ignore
    - "{{ $values.proxy.ports.control }},{{ $values.proxy.ports.admin }}{{ with $values.proxyInit.ignoreInboundPorts }},{{ . }}{{ end }}"
    {{- with $values.proxyInit.kubeAPIServerPorts }}
    - --outbound-ports-to-ignore
    - {{ quote . }}
    {{- end }}
    {{- if gt (int $values.proxyInit.closeWaitTimeoutSecs) 0 }}
    - --timeout-close-wait-secs
    - {{ int $values.proxyInit.closeWaitTimeoutSecs | quote }}
    {{- end }}
    {{- with $values.proxyInit.skipSubnets }}
    - --subnets-to-ignore
    - {{ quote . }}
    {{- end }}
    {{- with $values.proxyInit.logLevel }}
    - --log-level
    - {{ quote . }}
    {{- end }}
    {{- with $values.proxyInit.logFormat }}
    - --log-format
    - {{ quote . }}
    {{- end }}
  {{- include "mesh.sidecar-resources" .root | nindent 2 }}
  securityContext:
    allowPrivilegeEscalation: {{ $privileged }}
    privileged: {{ $privileged }}
    capabilities:
      add: [NET_ADMIN, NET_RAW]
      {{- if not $privileged }}
      drop: [ALL]
      {{- end }}
    readOnlyRootFilesystem: true
    runAsNonRoot: {{ not $values.proxyInit.runAsRoot }}
    runAsUser: {{ int $user }}
    runAsGroup: {{ int $user }}
    seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- end -}}

{{- define "mesh.sidecar" -}}
{{- $values := .root.Values -}}
- name: linkerd-proxy
  image: {{ $values.proxy.image.name }}:{{ $values.proxy.image.version | default (include "mesh.version" .root) }}
  imagePullPolicy: {{ $values.proxy.image.pullPolicy | default $values.imagePullPolicy }}
  terminationMessagePolicy: FallbackToLogsOnError
  ports:
    - {name: linkerd-proxy, containerPort: {{ $values.proxy.ports.inbound }}, protocol: TCP}
    - {name: linkerd-admin, containerPort: {{ $values.proxy.ports.admin }}, protocol: TCP}
  livenessProbe:
    httpGet: {path: /live, port: {{ $values.proxy.ports.admin }}}
    {{- with $values.proxy.livenessProbe }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  readinessProbe:
    httpGet: {path: /ready, port: {{ $values.proxy.ports.admin }}}
    # Frequent, because every other pod waits for these.
    periodSeconds: 1
  {{- include "mesh.sidecar-resources" .root | nindent 2 }}
  {{- if $values.proxy.securityContext }}
  securityContext:
    {{- toYaml $values.proxy.securityContext | nindent 4 }}
  {{- else }}
  securityContext:
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
    readOnlyRootFilesystem: true
    runAsNonRoot: true
    runAsUser: {{ int $values.proxy.uid }}
    {{- if ge (int $values.proxy.gid) 0 }}
    runAsGroup: {{ int $values.proxy.gid }}
    {{- end }}
    seccompProfile: {type: RuntimeDefault}
  {{- end }}
  volumeMounts:
    - {name: linkerd-identity-end-entity, mountPath: /var/run/linkerd/identity/end-entity}
    {{- if $values.identity.serviceAccountTokenProjection }}
    - {name: linkerd-identity-token, mountPath: /var/run/secrets/tokens}
    {{- end }}
  env:
    {{- include "mesh.sidecar-env-pod" . | nindent 4 }}
    {{- include "mesh.sidecar-env-control" . | nindent 4 }}
    {{- include "mesh.sidecar-env-listeners" . | nindent 4 }}
    {{- include "mesh.sidecar-env-connections" . | nindent 4 }}
    {{- include "mesh.sidecar-env-identity" . | nindent 4 }}
    {{- with $values.proxy.additionalEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $values.proxy.experimentalEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "mesh.sidecar-env-pod" -}}
{{- $proxy := .root.Values.proxy -}}
- name: _pod_name
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: _pod_ns
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: _pod_uid
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: _pod_ip
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: _pod_nodeName
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: _pod_containerName
  value: linkerd-proxy
{{- if $proxy.cores }}
- name: LINKERD2_PROXY_CORES
  value: {{ quote $proxy.cores }}
{{- end }}
{{- with $proxy.runtime.workers.minimum }}
- name: LINKERD2_PROXY_CORES_MIN
  value: {{ quote . }}
{{- end }}
{{- with $proxy.runtime.workers.maximum }}
- name: LINKERD2_PROXY_CORES_MAX
  value: {{ quote . }}
{{- end }}
{{- with $proxy.runtime.workers.maximumCPURatio }}
- name: LINKERD2_PROXY_CORES_MAX_RATIO
  value: {{ quote . }}
{{- end }}
{{- with $proxy.requireIdentityOnInboundPorts }}
- name: LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY
  value: {{ quote . }}
{{- end }}
{{- with .requireTls | default $proxy.requireTLSOnInboundPorts }}
- name: LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_TLS
  value: {{ quote . }}
{{- end }}
- name: LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED
  value: {{ quote $proxy.enableShutdownEndpoint }}
- name: LINKERD2_PROXY_LOG
  value: {{ quote (printf "%s%s" $proxy.logLevel (ternary "" ",[{headers}]=off,[{request}]=off" (eq $proxy.logHTTPHeaders "insecure"))) }}
- name: LINKERD2_PROXY_LOG_FORMAT
  value: {{ quote $proxy.logFormat }}
{{- end -}}

{{- define "mesh.sidecar-env-control" -}}
{{- $values := .root.Values }}
{{- $suffix := printf "%s.svc.%s." .root.Release.Namespace $values.clusterDomain -}}
- name: LINKERD2_PROXY_DESTINATION_SVC_ADDR
  value: {{ ternary "localhost.:8086" (printf "linkerd-dst-headless.%s:8086" $suffix) (eq .component "destination") }}
- name: LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS
  value: {{ quote $values.clusterNetworks }}
- name: LINKERD2_PROXY_POLICY_SVC_ADDR
  value: {{ ternary "localhost.:8090" (printf "linkerd-policy.%s:8090" $suffix) (eq .component "destination") }}
- name: LINKERD2_PROXY_POLICY_WORKLOAD
  value: |
    {"ns":"$(_pod_ns)", "pod":"$(_pod_name)"}
- name: LINKERD2_PROXY_INBOUND_DEFAULT_POLICY
  value: all-unauthenticated
- name: LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS
  value: {{ quote $values.clusterNetworks }}
- name: LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT
  value: {{ quote $values.proxy.control.streams.initialTimeout }}
- name: LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT
  value: {{ quote $values.proxy.control.streams.idleTimeout }}
- name: LINKERD2_PROXY_CONTROL_STREAM_LIFETIME
  value: {{ quote $values.proxy.control.streams.lifetime }}
{{- end -}}

{{- define "mesh.sidecar-env-listeners" -}}
{{- $proxy := .root.Values.proxy }}
{{- $any := ternary "0.0.0.0" "[::]" .root.Values.disableIPv6 -}}
- name: LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT
  value: {{ quote $proxy.inboundConnectTimeout }}
- name: LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT
  value: {{ quote $proxy.outboundConnectTimeout }}
- name: LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT
  value: {{ quote $proxy.outboundDiscoveryCacheUnusedTimeout }}
- name: LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT
  value: {{ quote $proxy.inboundDiscoveryCacheUnusedTimeout }}
{{- if $proxy.disableOutboundProtocolDetectTimeout }}
- name: LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT
  value: 365d
{{- end }}
{{- if $proxy.disableInboundProtocolDetectTimeout }}
- name: LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT
  value: 365d
{{- end }}
- name: LINKERD2_PROXY_CONTROL_LISTEN_ADDR
  value: "{{ $any }}:{{ $proxy.ports.control }}"
- name: LINKERD2_PROXY_ADMIN_LISTEN_ADDR
  value: "{{ $any }}:{{ $proxy.ports.admin }}"
- name: LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR
  value: "127.0.0.1:{{ $proxy.ports.outbound }}"
- name: LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS
  value: "127.0.0.1:{{ $proxy.ports.outbound }}{{ if not .root.Values.disableIPv6 }},[::1]:{{ $proxy.ports.outbound }}{{ end }}"
- name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR
  value: "{{ $any }}:{{ $proxy.ports.inbound }}"
- name: LINKERD2_PROXY_INBOUND_IPS
  valueFrom: {fieldRef: {fieldPath: status.podIPs}}
- name: LINKERD2_PROXY_INBOUND_PORTS
  value: {{ quote .ports }}
{{- end -}}

{{- define "mesh.sidecar-env-connections" -}}
{{- $values := .root.Values -}}
- name: LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES
  value: {{ ternary "." (printf "svc.%s." $values.clusterDomain) $values.proxy.enableExternalProfiles }}
- name: LINKERD2_PROXY_INBOUND_ACCEPT_KEEPALIVE
  value: 10000ms
- name: LINKERD2_PROXY_OUTBOUND_CONNECT_KEEPALIVE
  value: 10000ms
- name: LINKERD2_PROXY_INBOUND_ACCEPT_USER_TIMEOUT
  value: 30s
- name: LINKERD2_PROXY_OUTBOUND_CONNECT_USER_TIMEOUT
  value: 30s
- name: LINKERD2_PROXY_OUTBOUND_METRICS_HOSTNAME_LABELS
  value: {{ quote $values.proxy.metrics.hostnameLabels }}
{{- range $side, $scopes := dict "INBOUND" $values.proxy.inbound "OUTBOUND" $values.proxy.outbound }}
{{- range $scope, $protocols := $scopes }}
{{- range $protocol, $parameters := $protocols }}
{{- range $parameter, $value := $parameters }}
- name: LINKERD2_PROXY_{{ $side }}_{{ upper $scope }}_{{ upper $protocol }}_{{ snakecase $parameter | upper }}
  value: {{ quote $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .opaque | default $values.proxy.opaquePorts }}
- name: LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION
  value: {{ quote . }}
{{- end }}
- name: LINKERD2_PROXY_DESTINATION_CONTEXT
  value: |
    {"ns":"$(_pod_ns)", "nodeName":"$(_pod_nodeName)", "pod":"$(_pod_name)"}
{{- end -}}

{{- define "mesh.sidecar-env-identity" -}}
{{- $values := .root.Values }}
{{- $suffix := printf "%s.svc.%s." .root.Release.Namespace $values.clusterDomain -}}
- name: _pod_sa
  valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}
- name: _l5d_ns
  value: {{ .root.Release.Namespace }}
- name: _l5d_trustdomain
  value: {{ include "mesh.trust-domain" .root }}
- name: LINKERD2_PROXY_IDENTITY_DIR
  value: /var/run/linkerd/identity/end-entity
- name: LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS
  valueFrom: {configMapKeyRef: {name: linkerd-identity-trust-roots, key: ca-bundle.crt}}
- name: LINKERD2_PROXY_IDENTITY_TOKEN_FILE
  value: {{ ternary "/var/run/secrets/tokens/linkerd-identity-token" "/var/run/secrets/kubernetes.io/serviceaccount/token" $values.identity.serviceAccountTokenProjection }}
- name: LINKERD2_PROXY_IDENTITY_SVC_ADDR
  # Not the headless Service: these pods start together, and resolvers cache a name without addresses as unknown for 5 s.
  value: {{ ternary "localhost.:8080" (printf "linkerd-identity.%s:8080" $suffix) (eq .component "identity") }}
- name: LINKERD2_PROXY_IDENTITY_LOCAL_NAME
  value: $(_pod_sa).$(_pod_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)
- name: LINKERD2_PROXY_IDENTITY_SVC_NAME
  value: linkerd-identity.$(_l5d_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)
- name: LINKERD2_PROXY_DESTINATION_SVC_NAME
  value: linkerd-destination.$(_l5d_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)
- name: LINKERD2_PROXY_POLICY_SVC_NAME
  value: linkerd-destination.$(_l5d_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)
{{- with include "mesh.tap-identity" .root }}
- name: LINKERD2_PROXY_TAP_SVC_NAME
  value: {{ quote . }}
{{- end }}
{{- with $values.proxy.accessLog }}
- name: LINKERD2_PROXY_ACCESS_LOG
  value: {{ quote . }}
{{- end }}
{{- with $values.proxy.shutdownGracePeriod }}
- name: LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD
  value: {{ quote . }}
{{- end }}
{{- end -}}
