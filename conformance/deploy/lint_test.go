package deploy_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/coreos/go-systemd/v22/unit"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	network "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

const deploy = "../../deploy"

// read returns a file of deploy/.
func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// accepts checks that the binary takes arguments and environment: `serve` is replaced by `config check`, which reads
// them in the same way.
func accepts(t *testing.T, args, env []string) {
	t.Helper()
	if len(args) == 0 || args[0] != "serve" {
		t.Fatalf("the command is %q, want serve", args)
	}
	cmd := exec.Command(binary(t), append([]string{"config", "check"}, args[1:]...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("tabard %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestTheSystemdUnitIsHardenedAndItsSettingsAreKnown(t *testing.T) {
	sections, err := unit.Deserialize(bytes.NewReader(read(t, "systemd/tabard.service")))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for _, o := range sections {
		if o.Section == "Service" {
			values[o.Name] = append(values[o.Name], o.Value)
		}
	}
	for name, want := range map[string]string{
		"User": "tabard", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes",
		"StateDirectory": "tabard", "StateDirectoryMode": "0700", "UMask": "0077", "CapabilityBoundingSet": "CAP_NET_BIND_SERVICE",
		"MemoryDenyWriteExecute": "yes", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
	} {
		if got := values[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %s", name, got, want)
		}
	}
	start := strings.Fields(values["ExecStart"][0])
	args := start[1:]
	i := slices.Index(args, "--config")
	args[i+1] = filepath.Join(deploy, "systemd/tabard.yaml")
	args[slices.Index(args, "--data")+1] = t.TempDir()
	accepts(t, args, nil)

	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not here: the unit was parsed and compared only")
		return
	}
	// verify wants the binary to be where the unit says, so it sees a copy that names ours.
	file := filepath.Join(t.TempDir(), "tabard.service")
	text := strings.ReplaceAll(string(read(t, "systemd/tabard.service")), "/usr/local/bin/tabard", binary(t))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "verify", "--man=no", file).CombinedOutput(); err != nil || strings.Contains(string(out), "tabard.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := exec.Command(tool, "security", "--offline=true", "--threshold=20", file).CombinedOutput(); err != nil { // tenths: 2.0
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

func TestTheContainerIsStaticUnprivilegedAndItsSettingsAreKnown(t *testing.T) {
	result, err := parser.Parse(bytes.NewReader(read(t, "container/Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range result.Warnings {
		t.Errorf("Dockerfile: %s", w.Short)
	}
	stages, _, err := instructions.Parse(result.AST, linter.New(&linter.Config{ReturnAsError: true, Warn: func(rule, _, _, message string, _ []parser.Range) { t.Errorf("Dockerfile: %s: %s", rule, message) }}))
	if err != nil {
		t.Fatal(err)
	}
	var env, entry, command []string
	user := ""
	for _, c := range stages[len(stages)-1].Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EnvCommand:
			for _, e := range c.Env {
				env = append(env, e.Key+"="+e.Value)
			}
		case *instructions.EntrypointCommand:
			entry = c.CmdLine
		case *instructions.CmdCommand:
			command = c.CmdLine
		case *instructions.RunCommand:
			t.Error("the final image has no shell to run anything with")
		}
	}
	if user != "65532:65532" {
		t.Errorf("it runs as %q; Kubernetes can check only a number that is not 0", user)
	}
	if len(entry) != 1 || !strings.HasSuffix(entry[0], "/tabard") {
		t.Errorf("entry point %q", entry)
	}
	accepts(t, command, env)
}

func TestTheComposeFileIsValidAndHardened(t *testing.T) {
	dir, err := filepath.Abs(filepath.Join(deploy, "compose"))
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: dir, ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml")}}, Environment: types.Mapping{},
	}, func(o *loader.Options) { o.SetProjectName("tabard", true) })
	if err != nil {
		t.Fatal(err)
	}
	if len(project.Services) != 3 {
		t.Errorf("%d services", len(project.Services))
	}
	for name, s := range project.Services {
		if !s.ReadOnly || s.User != "65532:65532" || !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s is not hardened", name)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s is open beyond this machine: %+v", name, p)
			}
		}
	}
	accepts(t, project.Services["tabard"].Command, nil)
	guard := project.Services["guard"].Command
	out, err := exec.Command(binary(t), "guard", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range guard[1:] {
		if name, _, _ := strings.Cut(flag, "="); !strings.Contains(string(out), name+"=") {
			t.Errorf("tabard guard has no flag %s", name)
		}
	}
	build := project.Services["tabard"].Build
	if _, err := os.Stat(filepath.Join(build.Context, build.Dockerfile)); err != nil {
		t.Errorf("the image is built from %v", err)
	}
	if out, err := exec.Command("python3", "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())", filepath.Join(dir, "handler.py")).CombinedOutput(); err != nil {
		t.Errorf("handler.py: %v\n%s", err, out)
	}
}

// decode reads a manifest strictly: a field that the API does not know is an error, as with kubectl --validate=strict.
func decode[T any](t *testing.T, doc []byte, into *T) *T {
	t.Helper()
	if err := yaml.UnmarshalStrict(doc, into); err != nil {
		t.Errorf("%v in\n%s", err, doc)
	}
	return into
}

func TestTheManifestsAreValidAndHardened(t *testing.T) {
	kinds := map[string]int{}
	var set *apps.StatefulSet
	var config *core.ConfigMap
	var services []*core.Service
	for doc := range bytes.SplitSeq(read(t, "kubernetes/tabard.yaml"), []byte("\n---\n")) {
		var kind struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			t.Fatal(err)
		}
		kinds[kind.APIVersion+" "+kind.Kind]++
		switch kind.Kind {
		case "ServiceAccount":
			if a := decode(t, doc, &core.ServiceAccount{}); a.AutomountServiceAccountToken == nil || *a.AutomountServiceAccountToken {
				t.Error("the service account's token is mounted")
			}
		case "ConfigMap":
			config = decode(t, doc, &core.ConfigMap{})
		case "StatefulSet":
			set = decode(t, doc, &apps.StatefulSet{})
		case "Service":
			services = append(services, decode(t, doc, &core.Service{}))
		case "NetworkPolicy":
			decode(t, doc, &network.NetworkPolicy{})
		default:
			t.Errorf("a %s is not checked", kind.Kind)
		}
	}
	if fmt.Sprint(kinds) != "map[apps/v1 StatefulSet:1 networking.k8s.io/v1 NetworkPolicy:1 v1 ConfigMap:1 v1 Service:2 v1 ServiceAccount:1]" {
		t.Fatalf("it has %v", kinds)
	}
	pod := set.Spec.Template.Spec
	c := pod.Containers[0]
	if *set.Spec.Replicas != 1 {
		t.Error("more than one node would serve")
	}
	if s := pod.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser == 0 || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the pod's security context is %+v", s)
	}
	if s := c.SecurityContext; *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
		t.Errorf("the container's security context is %+v", s)
	}
	for key, value := range set.Spec.Selector.MatchLabels {
		if set.Spec.Template.Labels[key] != value {
			t.Errorf("the selector %s=%s does not match", key, value)
		}
	}
	mounts := map[string]bool{}
	for _, m := range c.VolumeMounts {
		mounts[m.Name] = true
	}
	for _, v := range pod.Volumes {
		if !mounts[v.Name] {
			t.Errorf("volume %s is not mounted", v.Name)
		}
	}
	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	for _, s := range services {
		if ports[s.Spec.Ports[0].TargetPort.StrVal] == 0 || s.Spec.Selector["app.kubernetes.io/name"] != "tabard" {
			t.Errorf("service %s leads nowhere", s.Name)
		}
	}
	// The settings are those that the binary knows, and its addresses are the ports.
	text := config.Data["tabard.yaml"]
	for name, port := range map[string]string{"public": "listen: 0.0.0.0:", "admin": "admin-listen: 0.0.0.0:"} {
		if !strings.Contains("\n"+text, "\n"+port+fmt.Sprint(ports[name])+"\n") {
			t.Errorf("the port %s is not what the settings listen on", name)
		}
	}
	file := filepath.Join(t.TempDir(), "tabard.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := slices.Clone(c.Args)
	args[slices.Index(args, "--config=/etc/tabard/tabard.yaml")] = "--config=" + file
	var env []string
	for _, e := range c.Env {
		env = append(env, e.Name+"="+e.Value)
	}
	accepts(t, args, env)
}
