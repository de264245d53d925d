{{- /* Sidecar of the control plane's own pods. Generated from the injector's by `MESH_RENEW=1 cargo test -p mesh-charts
partial`; do not edit. Takes a map: root, component, ports (of the containers), and optionally opaque,
requireIdentity and requireTls (ports); volumes take the root. */ -}}

{{- define "mesh.sidecar-volumes" -}}
{{- $values := .Values -}}
- name: linkerd-identity-end-entity
  emptyDir: {"medium":"Memory"}
{{- if $values.identity.serviceAccountTokenProjection }}
- name: linkerd-identity-token
  projected: {"sources":[{"serviceAccountToken":{"audience":"identity.l5d.io","expirationSeconds":86400,"path":"linkerd-identity-token"}}]}
{{- end }}
{{- end -}}

{{- define "mesh.sidecar-init" -}}
{{- $values := .root.Values -}}
{{- if $values.cniEnabled -}}
{{- $validator := $values.networkValidator -}}
- name: linkerd-network-validator
  args:
    - --log-format
    - {{ quote $validator.logFormat }}
    - --log-level
    - {{ quote $validator.logLevel }}
    - --connect-addr
    - {{ $validator.connectAddr | default (ternary "1.1.1.1:20001" "[fd00::1]:20001" $values.disableIPv6) | quote }}
    - --listen-addr
    - {{ $validator.listenAddr | default (printf "%s:%v" (ternary "0.0.0.0" "[::]" $values.disableIPv6) $values.proxy.ports.outbound) | quote }}
    - --timeout
    - {{ quote $validator.timeout }}
  image: {{ include "mesh.image" (dict "root" .root "image" $validator.image) }}
  imagePullPolicy: {{ $validator.image.pullPolicy | default $values.imagePullPolicy }}
  securityContext:
    allowPrivilegeEscalation: false
    capabilities: {"drop":["ALL"]}
    readOnlyRootFilesystem: true
    runAsGroup: {{ int $values.proxyInit.runAsUser }}
    runAsNonRoot: true
    runAsUser: {{ int $values.proxyInit.runAsUser }}
    seccompProfile: {"type":"RuntimeDefault"}
  terminationMessagePolicy: FallbackToLogsOnError
  {{- include "mesh.sidecar-resources" .root | nindent 2 }}
{{- else -}}
{{- $init := $values.proxyInit -}}
{{- $privileged := and $init.runAsRoot (gt (int $init.closeWaitTimeoutSecs) 0) -}}
- name: linkerd-init
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
    - "{{ $values.proxy.ports.control }},{{ $values.proxy.ports.admin }}{{ with $init.ignoreInboundPorts }},{{ . }}{{ end }}"
    {{- with $init.kubeAPIServerPorts }}
    - --outbound-ports-to-ignore
    - {{ quote . }}
    {{- end }}
    {{- if gt (int $init.closeWaitTimeoutSecs) 0 }}
    - --timeout-close-wait-secs
    - {{ int $init.closeWaitTimeoutSecs | quote }}
    {{- end }}
    {{- with $init.skipSubnets }}
    - --subnets-to-ignore
    - {{ quote . }}
    {{- end }}
    {{- with $init.logLevel }}
    - --log-level
    - {{ quote . }}
    {{- end }}
    {{- with $init.logFormat }}
    - --log-format
    - {{ quote . }}
    {{- end }}
  image: {{ include "mesh.image" (dict "root" .root "image" $init.image) }}
  imagePullPolicy: {{ $init.image.pullPolicy | default $values.imagePullPolicy }}
  securityContext:
    allowPrivilegeEscalation: {{ $privileged }}
    capabilities:
      add: ["NET_ADMIN"]
      {{- if not $privileged }}
      drop: ["ALL"]
      {{- end }}
    privileged: {{ $privileged }}
    readOnlyRootFilesystem: true
    runAsGroup: {{ ternary 0 (int $init.runAsUser) $init.runAsRoot }}
    runAsNonRoot: {{ not $init.runAsRoot }}
    runAsUser: {{ ternary 0 (int $init.runAsUser) $init.runAsRoot }}
    seccompProfile: {"type":"RuntimeDefault"}
  terminationMessagePolicy: FallbackToLogsOnError
  {{- include "mesh.sidecar-resources" .root | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "mesh.sidecar" -}}
{{- $values := .root.Values -}}
{{- $proxy := $values.proxy -}}
{{- $any := ternary "0.0.0.0" "[::]" $values.disableIPv6 -}}
{{- $suffix := printf "%s.svc.%s." .root.Release.Namespace $values.clusterDomain -}}
- name: linkerd-proxy
  env:
    - name: _pod_name
      valueFrom: {"fieldRef":{"fieldPath":"metadata.name"}}
    - name: _pod_ns
      valueFrom: {"fieldRef":{"fieldPath":"metadata.namespace"}}
    - name: _pod_uid
      valueFrom: {"fieldRef":{"fieldPath":"metadata.uid"}}
    - name: _pod_ip
      valueFrom: {"fieldRef":{"fieldPath":"status.podIP"}}
    - name: _pod_nodeName
      valueFrom: {"fieldRef":{"fieldPath":"spec.nodeName"}}
    - name: _pod_containerName
      value: "linkerd-proxy"
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
    {{- with .requireIdentity | default $proxy.requireIdentityOnInboundPorts }}
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
    - name: LINKERD2_PROXY_DESTINATION_SVC_ADDR
      value: {{ ternary "localhost.:8086" (printf "linkerd-dst-headless.%s:8086" $suffix) (eq .component "destination") }}
    - name: LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS
      value: {{ quote $values.clusterNetworks }}
    - name: LINKERD2_PROXY_POLICY_SVC_ADDR
      value: {{ ternary "localhost.:8090" (printf "linkerd-policy.%s:8090" $suffix) (eq .component "destination") }}
    - name: LINKERD2_PROXY_POLICY_WORKLOAD
      value: "{\"ns\":\"$(_pod_ns)\", \"pod\":\"$(_pod_name)\"}\n"
    - name: LINKERD2_PROXY_INBOUND_DEFAULT_POLICY
      value: "all-unauthenticated"
    - name: MESH_PROXY_INBOUND_FAIL_OPEN
      value: "true"
    - name: LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS
      value: {{ quote $values.clusterNetworks }}
    - name: LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT
      value: {{ quote $proxy.control.streams.initialTimeout }}
    - name: LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT
      value: {{ quote $proxy.control.streams.idleTimeout }}
    - name: LINKERD2_PROXY_CONTROL_STREAM_LIFETIME
      value: {{ quote $proxy.control.streams.lifetime }}
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
      value: "365d"
    {{- end }}
    {{- if $proxy.disableInboundProtocolDetectTimeout }}
    - name: LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT
      value: "365d"
    {{- end }}
    - name: LINKERD2_PROXY_CONTROL_LISTEN_ADDR
      value: "{{ $any }}:{{ $proxy.ports.control }}"
    - name: LINKERD2_PROXY_ADMIN_LISTEN_ADDR
      value: "{{ $any }}:{{ $proxy.ports.admin }}"
    - name: LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR
      value: "127.0.0.1:{{ $proxy.ports.outbound }}"
    - name: LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS
      value: "127.0.0.1:{{ $proxy.ports.outbound }}{{ if not $values.disableIPv6 }},[::1]:{{ $proxy.ports.outbound }}{{ end }}"
    - name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR
      value: "{{ $any }}:{{ $proxy.ports.inbound }}"
    - name: LINKERD2_PROXY_INBOUND_IPS
      valueFrom: {"fieldRef":{"fieldPath":"status.podIPs"}}
    - name: LINKERD2_PROXY_INBOUND_PORTS
      value: {{ quote .ports }}
    - name: LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES
      value: {{ ternary "." (printf "svc.%s." $values.clusterDomain) $proxy.enableExternalProfiles }}
    - name: LINKERD2_PROXY_INBOUND_ACCEPT_KEEPALIVE
      value: "10000ms"
    - name: LINKERD2_PROXY_OUTBOUND_CONNECT_KEEPALIVE
      value: "10000ms"
    - name: LINKERD2_PROXY_INBOUND_ACCEPT_USER_TIMEOUT
      value: "30s"
    - name: LINKERD2_PROXY_OUTBOUND_CONNECT_USER_TIMEOUT
      value: "30s"
    - name: LINKERD2_PROXY_OUTBOUND_METRICS_HOSTNAME_LABELS
      value: {{ quote $proxy.metrics.hostnameLabels }}
    {{- range $side, $scopes := dict "INBOUND" $proxy.inbound "OUTBOUND" $proxy.outbound }}
    {{- range $scope, $protocols := $scopes }}
    {{- range $protocol, $parameters := $protocols }}
    {{- range $parameter, $value := $parameters }}
    - name: LINKERD2_PROXY_{{ $side }}_{{ upper $scope }}_{{ upper $protocol }}_{{ snakecase $parameter | upper }}
      value: {{ quote $value }}
    {{- end }}
    {{- end }}
    {{- end }}
    {{- end }}
    {{- with .opaque | default $proxy.opaquePorts }}
    - name: LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION
      value: {{ quote . }}
    {{- end }}
    - name: LINKERD2_PROXY_DESTINATION_CONTEXT
      value: "{\"ns\":\"$(_pod_ns)\", \"nodeName\":\"$(_pod_nodeName)\", \"pod\":\"$(_pod_name)\"}\n"
    - name: _pod_sa
      valueFrom: {"fieldRef":{"fieldPath":"spec.serviceAccountName"}}
    - name: _l5d_ns
      value: {{ .root.Release.Namespace }}
    - name: _l5d_trustdomain
      value: {{ include "mesh.trust-domain" .root }}
    - name: LINKERD2_PROXY_IDENTITY_DIR
      value: "/var/run/linkerd/identity/end-entity"
    - name: LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS
      valueFrom: {"configMapKeyRef":{"key":"ca-bundle.crt","name":"linkerd-identity-trust-roots"}}
    - name: LINKERD2_PROXY_IDENTITY_TOKEN_FILE
      value: {{ ternary "/var/run/secrets/tokens/linkerd-identity-token" "/var/run/secrets/kubernetes.io/serviceaccount/token" $values.identity.serviceAccountTokenProjection }}
    - name: LINKERD2_PROXY_IDENTITY_SVC_ADDR
      value: {{ ternary "localhost.:8080" (printf "linkerd-identity.%s:8080" $suffix) (eq .component "identity") }}
    - name: LINKERD2_PROXY_IDENTITY_LOCAL_NAME
      value: "$(_pod_sa).$(_pod_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)"
    - name: LINKERD2_PROXY_IDENTITY_SVC_NAME
      value: "linkerd-identity.$(_l5d_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)"
    - name: LINKERD2_PROXY_DESTINATION_SVC_NAME
      value: "linkerd-destination.$(_l5d_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)"
    - name: LINKERD2_PROXY_POLICY_SVC_NAME
      value: "linkerd-destination.$(_l5d_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)"
    {{- with include "mesh.tap-identity" .root }}
    - name: LINKERD2_PROXY_TAP_SVC_NAME
      value: {{ quote . }}
    {{- end }}
    {{- with $proxy.accessLog }}
    - name: LINKERD2_PROXY_ACCESS_LOG
      value: {{ quote . }}
    {{- end }}
    {{- with $proxy.shutdownGracePeriod }}
    - name: LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD
      value: {{ quote . }}
    {{- end }}
    {{- with $proxy.additionalEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $proxy.experimentalEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  image: {{ include "mesh.image" (dict "root" .root "image" $values.proxy.image) }}
  imagePullPolicy: {{ $values.proxy.image.pullPolicy | default $values.imagePullPolicy }}
  livenessProbe:
    httpGet:
      path: "/live"
      port: {{ $values.proxy.ports.admin }}
    {{- with $values.proxy.livenessProbe }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - name: linkerd-proxy
      containerPort: {{ $values.proxy.ports.inbound }}
      protocol: "TCP"
    - name: linkerd-admin
      containerPort: {{ $values.proxy.ports.admin }}
      protocol: "TCP"
  readinessProbe:
    httpGet:
      path: "/ready"
      port: {{ $values.proxy.ports.admin }}
    # Frequent, because every other pod waits for these.
    periodSeconds: 1
  {{- if $values.proxy.securityContext }}
  securityContext:
    {{- toYaml $values.proxy.securityContext | nindent 4 }}
  {{- else }}
  securityContext:
    allowPrivilegeEscalation: false
    capabilities: {"drop":["ALL"]}
    readOnlyRootFilesystem: true
    {{- if ge (int $values.proxy.gid) 0 }}
    runAsGroup: {{ int $values.proxy.gid }}
    {{- end }}
    runAsNonRoot: true
    runAsUser: {{ int $values.proxy.uid }}
    seccompProfile: {"type":"RuntimeDefault"}
  {{- end }}
  terminationMessagePolicy: FallbackToLogsOnError
  {{- include "mesh.sidecar-resources" .root | nindent 2 }}
  volumeMounts:
    - name: linkerd-identity-end-entity
      mountPath: "/var/run/linkerd/identity/end-entity"
    {{- if $values.identity.serviceAccountTokenProjection }}
    - name: linkerd-identity-token
      mountPath: "/var/run/secrets/tokens"
    {{- end }}
{{- end -}}
