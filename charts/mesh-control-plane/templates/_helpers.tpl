{{- define "mesh.version" -}}
{{ .Values.linkerdVersion | default .Chart.AppVersion }}
{{- end -}}

{{- define "mesh.image" -}}
{{- if and .root.Values.imageRegistry (not (contains "/" (.image.name | default ""))) -}}
{{ trimSuffix "/" .root.Values.imageRegistry }}/
{{- end -}}
{{ .image.name }}:{{ .image.version | default (include "mesh.version" .root) }}
{{- end -}}

{{- define "mesh.labels" -}}
linkerd.io/control-plane-ns: {{ .Release.Namespace }}
{{- end -}}

{{- define "mesh.annotations" -}}
linkerd.io/created-by: mesh/{{ include "mesh.version" . }}
{{- end -}}

{{- define "mesh.trust-domain" -}}
{{ .Values.identityTrustDomain | default .Values.clusterDomain }}
{{- end -}}

{{- define "mesh.tap-identity" -}}
{{- if .Values.proxy.tapIdentity -}}
{{ .Values.proxy.tapIdentity }}
{{- else if .Values.proxy.tapServiceAccount -}}
{{ .Values.proxy.tapServiceAccount }}.serviceaccount.identity.{{ .Release.Namespace }}.{{ include "mesh.trust-domain" . }}
{{- end -}}
{{- end -}}

{{- define "mesh.pod-security" -}}
runAsNonRoot: true
runAsUser: {{ int .Values.controllerUID }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "mesh.container-security" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ int .Values.controllerUID }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* The next four take a map: root, component, and the arguments of "mesh.sidecar". */ -}}

{{- define "mesh.replicas" -}}
replicas: {{ .root.Values.controllerReplicas }}
revisionHistoryLimit: {{ .root.Values.revisionHistoryLimit }}
{{- with .root.Values.deploymentStrategy }}
strategy:
  {{- toYaml . | nindent 2 }}
{{- end }}
selector:
  matchLabels:
    linkerd.io/control-plane-ns: {{ .root.Release.Namespace }}
    linkerd.io/control-plane-component: {{ .component }}
{{- end -}}

{{- define "mesh.pod-metadata" -}}
labels:
  {{- include "mesh.labels" .root | nindent 2 }}
  linkerd.io/control-plane-component: {{ .component }}
  linkerd.io/proxy-deployment: linkerd-{{ .component }}
  linkerd.io/workload-ns: {{ .root.Release.Namespace }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  {{- include "mesh.annotations" .root | nindent 2 }}
  {{- include "mesh.sidecar-annotations" .root | nindent 2 }}
  {{- with .opaque }}
  config.linkerd.io/opaque-ports: {{ quote . }}
  {{- end }}
  {{- with .requireIdentity }}
  # Only proxies ask for policies and endpoints; anybody else could read or exhaust them.
  config.linkerd.io/proxy-require-identity-inbound-ports: {{ quote . }}
  {{- end }}
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "mesh.placement" -}}
nodeSelector:
  {{- toYaml .root.Values.nodeSelector | nindent 2 }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if .root.Values.enablePodAntiAffinity }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          labelSelector:
            matchLabels:
              linkerd.io/control-plane-ns: {{ .root.Release.Namespace }}
              linkerd.io/control-plane-component: {{ .component }}
          topologyKey: topology.kubernetes.io/zone
    requiredDuringSchedulingIgnoredDuringExecution:
      - labelSelector:
          matchLabels:
            linkerd.io/control-plane-ns: {{ .root.Release.Namespace }}
            linkerd.io/control-plane-component: {{ .component }}
        topologyKey: kubernetes.io/hostname
{{- end }}
{{- end -}}

{{- define "mesh.disruption-budget" -}}
{{- if .root.Values.enablePodDisruptionBudget -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: linkerd-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "mesh.labels" .root | nindent 4 }}
    linkerd.io/control-plane-component: {{ .component }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      linkerd.io/control-plane-ns: {{ .root.Release.Namespace }}
      linkerd.io/control-plane-component: {{ .component }}
---
{{- end }}
{{- end -}}

{{- define "mesh.probes" -}}
livenessProbe:
  httpGet: {path: /live, port: {{ . }}}
  initialDelaySeconds: 10
readinessProbe:
  httpGet: {path: /ready, port: {{ . }}}
  periodSeconds: 1
  failureThreshold: 14
{{- end -}}

{{- /* Credentials for the API server, for the one container that asks it. Where workloads prove their service account by the
     API server's token, the sidecar needs it as well, and the kubelet mounts it everywhere. */ -}}

{{- define "mesh.api-access" -}}
{{- if .Values.identity.serviceAccountTokenProjection -}}
automountServiceAccountToken: false
{{- end }}
{{- end -}}

{{- define "mesh.api-access-mount" -}}
{{- if .Values.identity.serviceAccountTokenProjection -}}
- {name: kube-api-access, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}
{{- end -}}

{{- define "mesh.api-access-volume" -}}
{{- if .Values.identity.serviceAccountTokenProjection -}}
- name: kube-api-access
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}
{{- end -}}

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

{{- /* Resources of sidecars and their init containers. */ -}}

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
