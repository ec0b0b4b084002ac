"""Renders the chart with Helm's engine for each of charts/outrider/ci/*-values.yaml and judges what comes out.

Prints one JSON object: how many value sets, objects and judgements there were. Ends with 1 and every fault if there is one.
"""

import json
import pathlib
import sys

import helm_python as helm
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "outrider"
VERSIONS = ["1.29", "1.32", kubernetes_validate.latest_version()]
# Kinds of other projects, whose schemas are not among those of Kubernetes.
FOREIGN = {"PodMonitor", "PrometheusRule", "Certificate", "Issuer"}
NAMESPACE = "outrider-system"

faults = []
counts = {"value_sets": 0, "objects": 0, "judged": 0, "refused": 0}


def fault(where, what):
    faults.append(f"{where}: {what}")


def rendered(values):
    chart = helm.Chart.load(str(CHART))
    files = chart.render(values, name="outrider", namespace=NAMESPACE)
    for path, text in sorted(files.items()):
        if path.endswith(".txt"):
            continue
        for one in yaml.safe_load_all(text):
            if one:
                yield path.split("templates/")[-1], one


def containers(one):
    spec = one.get("spec", {}).get("template", {}).get("spec", {})
    return spec, spec.get("containers", []) + spec.get("initContainers", [])


def judge_pod(where, one):
    """The level `restricted` of the Pod Security Standards, and that the injector does not wait for itself."""
    spec, all_of_them = containers(one)
    labels = one["spec"]["template"]["metadata"]["labels"]
    if labels.get("outrider.dev/inject") != "false":
        fault(where, "its own pods must not be injected")
    selector = one["spec"]["selector"]["matchLabels"]
    if not selector.items() <= labels.items():
        fault(where, "the selector does not meet the pod's labels")
    for volume in spec.get("volumes", []):
        if "emptyDir" in volume or "hostPath" in volume:
            fault(where, f"volume {volume['name']} keeps the autoscaler from removing a node")
    names = {volume["name"] for volume in spec.get("volumes", [])}
    for container in all_of_them:
        own = container["securityContext"]
        wanted = {"runAsNonRoot": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}
        if any(own.get(key) != value for key, value in wanted.items()) or own["capabilities"] != {"drop": ["ALL"]}:
            fault(where, f"{container['name']} is not confined")
        if own["seccompProfile"]["type"] != "RuntimeDefault":
            fault(where, f"{container['name']} has no seccomp profile")
        if not {mount["name"] for mount in container.get("volumeMounts", [])} <= names:
            fault(where, f"{container['name']} mounts a volume that is not there")
        if "lifecycle" in container:
            fault(where, f"{container['name']} has a hook, and no shell to run it")
        if "memory" not in container["resources"]["limits"]:
            fault(where, f"{container['name']} has no memory limit")


def judge_webhooks(where, one, values):
    for hook in one["webhooks"]:
        client = hook["clientConfig"]
        if "caBundle" in client:
            fault(where, "a caBundle in the chart would be put back at each sync")
        if one["kind"] == "ValidatingWebhookConfiguration":
            if hook["failurePolicy"] != "Ignore":
                fault(where, "a policy must be changeable while no injector answers")
            continue
        if hook["failurePolicy"] != values.get("injector", {}).get("failurePolicy", "Fail"):
            fault(where, "failurePolicy")
        excluded = [e for e in hook["namespaceSelector"]["matchExpressions"] if e["operator"] == "NotIn"]
        if not any(NAMESPACE in e["values"] and "kube-system" in e["values"] for e in excluded):
            fault(where, "the chart's own namespace and kube-system must be left out")
        if hook["rules"] != [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"}
        ]:
            fault(where, "only the creation of pods concerns the injector")


def judge(name, values):
    objects = list(rendered(values))
    known = {(one["kind"], one["metadata"]["name"]) for _, one in objects}
    if len(known) != len(objects):
        fault(name, "two objects of one name")
    for path, one in objects:
        where = f"{name} {path} {one['kind']}/{one['metadata']['name']}"
        counts["objects"] += 1
        if one["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") != "outrider" and "extra" not in path:
            fault(where, "the common labels are missing")
        if one["kind"] not in FOREIGN:
            for version in VERSIONS:
                counts["judged"] += 1
                try:
                    kubernetes_validate.validate(one, version, strict=True)
                except Exception as error:  # The package's own errors have no common base.
                    fault(where, f"Kubernetes {version}: {str(error).splitlines()[0]}")
        if one["kind"] == "Deployment":
            judge_pod(where, one)
            account = containers(one)[0]["serviceAccountName"]
            if ("ServiceAccount", account) not in known:
                fault(where, f"there is no ServiceAccount {account}")
        if one["kind"].endswith("WebhookConfiguration"):
            judge_webhooks(where, one, values)
            for hook in one["webhooks"]:
                if ("Service", hook["clientConfig"]["service"]["name"]) not in known:
                    fault(where, "calls a Service that is not there")
        if one["kind"] in ("ClusterRole", "Role"):
            for rule in one["rules"]:
                if "*" in rule["verbs"] + rule["resources"] + rule["apiGroups"]:
                    fault(where, "a wildcard is never the minimum")
                if "secrets" in rule["resources"] and rule["verbs"] != ["create"] and not rule.get("resourceNames"):
                    fault(where, "reads every Secret")
    return {(one["kind"], one["metadata"]["name"]): one for _, one in objects}


def lint(name, values):
    told = helm.lint(str(CHART), values, strict=True, kube_version="1.29.0")
    messages = told.get("messages", told.get("Messages", []))
    bad = [m for m in messages if str(m.get("severity", m.get("Severity"))) not in ("0", "1", "INFO", "UNKNOWN")]
    if bad or told.get("errors") or told.get("Errors"):
        fault(name, f"lint: {told}")


def refused(values, word):
    counts["refused"] += 1
    try:
        list(rendered(values))
    except helm.HelmError as error:
        if word not in str(error):
            fault(f"{values}", f"refused, but not because of `{word}`: {error}")
    else:
        fault(f"{values}", "is not refused")


sets = {path.stem.removesuffix("-values"): yaml.safe_load(path.read_text()) or {} for path in sorted((CHART / "ci").glob("*-values.yaml"))}
for name, values in sets.items():
    counts["value_sets"] += 1
    lint(name, values)
    found = judge(name, values)
    monitoring = values.get("monitoring", {})
    for kind, key in (("PodMonitor", "podMonitor"), ("PrometheusRule", "prometheusRule")):
        is_there = any(k == kind for k, _ in found)
        wanted = monitoring.get(key, {}).get("enabled", False)
        if is_there and not wanted:
            fault(name, f"{kind} without being asked for")
        # Rules come with the files in rules/; monitors always.
        if wanted and not is_there and (kind == "PodMonitor" or list((CHART / "rules").glob("*.yaml"))):
            fault(name, f"no {kind}")

refused({"injector": {"replica": 3}}, "replica")
refused({"injector": {"failurePolicy": "Maybe"}}, "failurePolicy")
refused({"image": {"digest": "latest"}}, "digest")
refused({"injector": {"certs": {"mode": "external"}}}, "secretName")
refused({"proxy": {"shutdownGrace": "25"}}, "shutdownGrace")

first = judge("once", {})
if first != judge("twice", {}):
    fault("default", "renders differently a second time")

print(json.dumps({**counts, "kubernetes": VERSIONS, "helm": helm.helm_sdk_version()}))
if faults:
    sys.exit("\n".join(faults))
