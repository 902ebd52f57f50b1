"""What in deploy/ cannot be run on a machine without Kubernetes, systemd or containers, checked statically:
python tests/deploy/check.py POSTRIDER, with the Python of tests/deploy/requirements.txt. Each check is one unittest."""

import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROGRAMS = Path(sys.executable).parent
BINARY = Path(sys.argv.pop(1)) if len(sys.argv) > 1 else ROOT / "target/debug/postrider"
KUBERNETES = "1.37"


def run(*command):
    """A program that must succeed; what it said."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    if done.returncode:
        raise AssertionError(f"{command[0]} exited with {done.returncode}:\n{said}")
    return said


def manifests():
    files = [path for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) if path.name != "kustomization.yaml"]
    return {path.name: yaml.safe_load(path.read_text()) for path in files}


class Kubernetes(unittest.TestCase):
    def setUp(self):
        self.manifests = manifests()
        self.spec = self.manifests["deployment.yaml"]["spec"]
        self.pod = self.spec["template"]["spec"]
        [self.container] = self.pod["containers"]

    def test_every_manifest_is_valid(self):
        for name, manifest in self.manifests.items():
            if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
                continue
            with self.subTest(name):
                kubernetes_validate.validate(manifest, KUBERNETES, strict=True)

    def test_a_wrong_manifest_is_not(self):
        self.container["readinesProbe"] = self.container.pop("readinessProbe")
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(self.manifests["deployment.yaml"], KUBERNETES, strict=True)

    def test_kustomization_lists_every_manifest_but_the_example(self):
        kustomization = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())
        listed = set(kustomization["resources"])
        self.assertEqual(listed, set(self.manifests) - {"ingress-example.yaml"})
        known = {"apiVersion", "kind", "namespace", "resources", "images"}
        self.assertEqual(set(kustomization), known)
        self.assertEqual([image["name"] for image in kustomization["images"]], [self.container["image"]])

    def test_every_selector_finds_the_pods(self):
        labels = self.spec["template"]["metadata"]["labels"].items()
        for name, selector in {
            "deployment.yaml": self.spec["selector"]["matchLabels"],
            "service.yaml": self.manifests["service.yaml"]["spec"]["selector"],
            "poddisruptionbudget.yaml": self.manifests["poddisruptionbudget.yaml"]["spec"]["selector"]["matchLabels"],
            "networkpolicy.yaml": self.manifests["networkpolicy.yaml"]["spec"]["podSelector"]["matchLabels"],
        }.items():
            with self.subTest(name):
                self.assertLessEqual(selector.items(), labels)

    def test_service_monitor_finds_the_service(self):
        monitor, service = self.manifests["servicemonitor.yaml"], self.manifests["service.yaml"]
        self.assertEqual((monitor["apiVersion"], monitor["kind"]), ("monitoring.coreos.com/v1", "ServiceMonitor"))
        self.assertLessEqual(set(monitor["spec"]), {"jobLabel", "selector", "endpoints"})
        labels = service["metadata"]["labels"]
        self.assertLessEqual(monitor["spec"]["selector"]["matchLabels"].items(), labels.items())
        # Dashboards and rules know the job as 'postrider'.
        self.assertEqual(labels[monitor["spec"]["jobLabel"]], "postrider")
        [endpoint] = monitor["spec"]["endpoints"]
        self.assertLessEqual(set(endpoint), {"port", "path", "interval"})
        self.assertIn(endpoint["port"], [port["name"] for port in service["spec"]["ports"]])

    def test_the_pod_ends_after_its_drain_and_not_before(self):
        settings = self.manifests["configmap.yaml"]["data"]
        delay, window, deadline = (int(settings[f"POSTRIDER_DRAIN_{word}_MS"]) for word in ("DELAY", "WINDOW", "DEADLINE"))
        self.assertLess(delay + window, deadline)
        self.assertLess(deadline, self.pod["terminationGracePeriodSeconds"] * 1_000)
        self.assertNotIn("lifecycle", self.container, "the program waits by itself")
        readiness = self.container["readinessProbe"]
        self.assertLess(readiness["periodSeconds"] * readiness["failureThreshold"] * 1_000, delay)

    def test_probes_ask_for_what_they_should(self):
        paths = {probe: self.container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        self.assertEqual(paths, {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"})

    def test_the_pod_may_do_nothing_it_need_not(self):
        self.assertTrue(self.pod["securityContext"]["runAsNonRoot"])
        own = self.container["securityContext"]
        self.assertEqual((own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]), (False, True))
        self.assertEqual(own["capabilities"]["drop"], ["ALL"])

    def test_the_program_takes_every_setting(self):
        settings = dict(self.manifests["configmap.yaml"]["data"])
        check_settings(settings)

    def test_a_roll_never_has_fewer_nodes(self):
        self.assertEqual(self.spec["strategy"]["rollingUpdate"], {"maxSurge": 1, "maxUnavailable": 0})
        self.assertEqual(self.manifests["poddisruptionbudget.yaml"]["spec"]["maxUnavailable"], 1)


def check_settings(settings):
    """As variables of the program, with secrets as they would be mounted."""
    secrets = {"POSTRIDER_JWT_SECRET": "s" * 32, "POSTRIDER_API_KEY": "k" * 32}
    environment = {name: value for name, value in settings.items() if not name.endswith("_FILE")} | secrets
    done = subprocess.run([BINARY, "config", "check"], env=environment, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)


class Compose(unittest.TestCase):
    def setUp(self):
        self.file = DEPLOY / "compose/compose.yaml"
        self.compose = yaml.safe_load(self.file.read_text())
        self.services = self.compose["services"]

    def address(self, service):
        return self.services[service]["networks"]["postrider"]["ipv4_address"]

    def test_it_is_valid(self):
        run(PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", self.file)

    def test_nginx_knows_the_nodes_and_they_know_nginx(self):
        nodes = [name for name in self.services if name.startswith("node-")]
        self.assertEqual(len(nodes), 3)
        for file in ("nodes.conf", "nodes-for-sockets.conf"):
            servers = re.findall(r"^server ([0-9.]+):8080 ", (DEPLOY / "compose" / file).read_text(), re.MULTILINE)
            self.assertEqual(servers, [self.address(node) for node in nodes])
        for node in nodes:
            self.assertEqual(self.services[node]["environment"]["POSTRIDER_TRUSTED_PROXIES"], self.address("nginx"))
        targets = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())["scrape_configs"][0]["static_configs"]
        self.assertEqual(targets[0]["targets"], [f"{node}:8080" for node in nodes])

    def test_every_mounted_file_is_there(self):
        for name, service in self.services.items():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("."):
                    self.assertTrue((self.file.parent / source).exists(), f"{name}: {source}")
                else:
                    self.assertIn(source, self.compose["volumes"], name)

    def test_prometheus_reads_the_rules_it_is_given(self):
        own = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())
        for rules in own["rule_files"]:
            mounted = [volume for volume in self.services["prometheus"]["volumes"] if volume.endswith(f"/{rules}:ro")]
            self.assertEqual(len(mounted), 1, rules)
        if shutil.which("promtool"):
            with tempfile.TemporaryDirectory() as folder:
                for file in [DEPLOY / "compose/prometheus.yml", *ROOT.glob("prometheus.rules*.yml")]:
                    shutil.copy(file, folder)
                run("promtool", "check", "config", f"{folder}/prometheus.yml")

    def test_nodes_may_do_nothing_they_need_not_and_have_time_to_drain(self):
        for name in ("node-1", "node-2", "node-3"):
            node = self.services[name]
            self.assertTrue(node["read_only"])
            self.assertEqual((node["cap_drop"], node["security_opt"]), (["ALL"], ["no-new-privileges:true"]))
            # The default deadline of a drain is 20 seconds.
            self.assertGreater(int(node["stop_grace_period"].removesuffix("s")), 20)
            check_settings(node["environment"])

    def test_redis_keeps_what_it_answered(self):
        command = " ".join(self.services["redis"]["command"])
        self.assertIn("--appendonly yes", command)
        self.assertIn("--maxmemory-policy noeviction", command)


class Image(unittest.TestCase):
    def setUp(self):
        self.text = (ROOT / "Dockerfile").read_text()

    def test_the_linter_has_no_complaint(self):
        run(PROGRAMS / "hadolint", ROOT / "Dockerfile")

    def test_everything_that_the_build_reads_is_copied(self):
        copied = [ROOT / part for line in re.findall(r"^COPY (?!--from)(.*) \S+$", self.text, re.MULTILINE) for part in line.split()]
        ignored = (ROOT / ".dockerignore").read_text().split()
        for path in copied:
            self.assertIn(f"!{path.relative_to(ROOT)}", ignored)
        for source in (ROOT / "src").rglob("*.rs"):
            # The image builds no tests.
            if source.stem.endswith("tests") or "tests" in source.relative_to(ROOT).parts:
                continue
            for included in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()):
                path = (source.parent / included).resolve()
                self.assertTrue(any(path.is_relative_to(there) for there in copied), f"{source}: {included}")
        for named in re.findall(r'^path = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE):
            self.assertTrue(any((ROOT / named).is_relative_to(there) for there in copied), named)

    def test_it_is_nobody_and_knows_whether_it_is_well(self):
        self.assertRegex(self.text, r"(?m)^USER 10001:10001$")
        self.assertIn('CMD ["postrider", "health"]', self.text)
        run(BINARY, "health", "--help")
        rust = re.search(r'^rust-version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        self.assertIn(f"FROM rust:{rust}", self.text)


class Systemd(unittest.TestCase):
    def setUp(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("systemd-analyze is not installed")
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.unit = Path(self.folder.name) / "postrider.service"
        text = (DEPLOY / "systemd/postrider.service").read_text()
        # It must be there to be verified.
        self.unit.write_text(text.replace("/usr/local/bin/postrider", str(BINARY.resolve())))

    def test_the_unit_is_valid(self):
        said = run("systemd-analyze", "verify", "--man=no", self.unit)
        self.assertNotIn(self.unit.name, said)

    def test_a_wrong_unit_is_not(self):
        self.unit.write_text(self.unit.read_text().replace("TimeoutStopSec", "TimeoutStopSek"))
        self.assertIn("TimeoutStopSek", run("systemd-analyze", "verify", "--man=no", self.unit))

    def test_little_is_exposed(self):
        said = run("systemd-analyze", "security", "--offline=true", "--no-pager", self.unit)
        exposure = float(re.search(r"exposure level for \S+ ([0-9.]+)", said)[1])
        self.assertLess(exposure, 2.0)

    def test_it_stops_after_its_drain(self):
        seconds = int(re.search(r"^TimeoutStopSec=(\d+)s$", self.unit.read_text(), re.MULTILINE)[1])
        self.assertGreater(seconds, 20, "the default deadline of a drain")


class Scripts(unittest.TestCase):
    def test_the_linter_has_no_complaint(self):
        run(PROGRAMS / "shellcheck", ROOT / "scripts/cluster", ROOT / "tests/deploy/run")


if __name__ == "__main__":
    unittest.main(verbosity=1)
