package deploy_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The container's promise, kept without a container engine: in a root of its own that holds nothing but the binary and
// is mounted read-only, as an unprivileged user, with /data alone to write to.
func TestTheBinaryNeedsNothingButAPlaceForItsData(t *testing.T) {
	const uid = 65532
	dir := t.TempDir()
	root, data := filepath.Join(dir, "root"), filepath.Join(dir, "data")
	for _, d := range []string{filepath.Join(root, "usr/local/bin"), filepath.Join(root, "data"), data} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, binary(t), filepath.Join(root, "usr/local/bin/tabard"))
	unshare, chroot := "unshare --mount --map-root-user", "chroot"
	if os.Getuid() == 0 {
		unshare, chroot = "unshare --mount", fmt.Sprintf("chroot --userspec=%d:%d", uid, uid)
		if err := os.Chown(data, uid, uid); err != nil {
			t.Fatal(err)
		}
		for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // the user must get there
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	script := fmt.Sprintf(`set -e
mount --bind %[1]s %[1]s
mount --bind %[2]s %[1]s/data
mount -o remount,bind,ro %[1]s
if touch %[1]s/x 2>/dev/null; then echo "the root is writable"; exit 1; fi
exec %[3]s %[1]s /usr/local/bin/tabard serve --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0`, root, data, chroot)
	args := append(strings.Fields(unshare), "sh", "-c", script)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TABARD_DATA=/data", "TABARD_LOG_FORMAT=json"}
	var output bytes.Buffer
	s := running(t, cmd, filepath.Join(data, "ready.json"), &output)
	if body, err := s.get(t.Context(), s.Endpoint+"/api/health"); err != nil || len(body) > 0 {
		t.Errorf("health: %q, %v", body, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)) // exec kept the process
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 && !strings.Contains(string(status), fmt.Sprintf("\nUid:\t%d\t%d", uid, uid)) {
		t.Errorf("it does not run as %d:\n%s", uid, status)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
