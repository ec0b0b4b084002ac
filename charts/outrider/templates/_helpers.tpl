{{- define "outrider.name" -}}outrider{{- end }}

{{/* One release a namespace needs no prefix; a revision tells canaries apart. */}}
{{- define "outrider.injector" -}}
outrider-injector{{ with .Values.injector.revision }}-{{ . }}{{ end }}
{{- end }}

{{- define "outrider.chart" -}}
{{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "outrider.labels" -}}
helm.sh/chart: {{ include "outrider.chart" . }}
app.kubernetes.io/name: {{ include "outrider.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: outrider
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Selectors cannot be changed later, so they hold only what never will. */}}
{{- define "outrider.selector" -}}
app.kubernetes.io/name: outrider
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "outrider.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What every container of ours is confined by: enough for the `restricted` Pod Security level. */}}
{{- define "outrider.confined" -}}
runAsUser: 4750
runAsGroup: 4750
runAsNonRoot: true
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "outrider.certSecret" -}}
{{- if eq .Values.injector.certs.mode "external" -}}
{{ required "injector.certs.secretName: the Secret with tls.crt, tls.key and ca.crt" .Values.injector.certs.secretName }}
{{- else -}}
{{ include "outrider.injector" . }}-tls
{{- end -}}
{{- end }}
