{{- define "mesh.version" -}}
{{ .Values.linkerdVersion | default .Chart.AppVersion }}
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

{{- define "mesh.pod-security" -}}
runAsNonRoot: true
runAsUser: {{ .Values.controllerUID }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "mesh.container-security" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ .Values.controllerUID }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "mesh.placement" -}}
nodeSelector:
  {{- toYaml .Values.nodeSelector | nindent 2 }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "mesh.probes" -}}
livenessProbe:
  httpGet: {path: /live, port: admin}
readinessProbe:
  httpGet: {path: /ready, port: admin}
{{- end -}}
