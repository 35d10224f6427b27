package fabric

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, opt Options) *Fabric {
	t.Helper()
	f, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// external starts a NATS server on a loopback port, 0 for any, and returns its URL.
func external(t *testing.T, opt server.Options) (*server.Server, string) {
	t.Helper()
	opt.Host, opt.NoSigs, opt.NoLog = "127.0.0.1", true, true
	if opt.Port == 0 {
		opt.Port = server.RANDOM_PORT
	}
	srv, err := server.NewServer(&opt)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server is not ready")
	}
	return srv, srv.ClientURL()
}

func jetStream(t *testing.T) server.Options {
	return server.Options{JetStream: true, StoreDir: t.TempDir()}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("did not happen in time: %s", what)
		case <-tick.C:
		}
	}
}

func put(t *testing.T, f *Fabric, bucket, key, value string) {
	t.Helper()
	kv, err := f.JetStream().CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bucket})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, f *Fabric, bucket, key string) string {
	t.Helper()
	kv, err := f.JetStream().KeyValue(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := kv.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(entry.Value())
}

func TestTheEmbeddedServerKeepsWhatWasPutAndOpensNoSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "for us")
	f := open(t, Options{DataDir: dir})
	if f.embedded.Addr() != nil {
		t.Errorf("the embedded server listens on %v", f.embedded.Addr())
	}
	if !f.embedded.JetStreamConfig().SyncAlways {
		t.Error("the embedded server does not sync every write")
	}
	put(t, f, "b", "k", "v")
	f.Close()
	f.Close() // more than once is allowed
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v %v, want mode 0700", info.Mode(), err)
	}
	if got := get(t, open(t, Options{DataDir: dir}), "b", "k"); got != "v" {
		t.Errorf("after reopening the value is %q, want v", got)
	}
}

func TestASecondOpenerOfTheDataDirectoryIsToldWhoHoldsIt(t *testing.T) {
	dir := t.TempDir()
	first := open(t, Options{DataDir: dir})
	_, err := Open(t.Context(), Options{DataDir: dir})
	var held *InUseError
	if !errors.As(err, &held) {
		t.Fatalf("error is %v, want an InUseError", err)
	}
	if want := fmt.Sprintf("process %d on ", os.Getpid()); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error is %q, want directory and %q in it", err, want)
	}
	put(t, first, "b", "k", "v") // the refused one left the first alone
	first.Close()
	open(t, Options{DataDir: dir})
}

func TestWrongOptionsAreRefusedInWords(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		opt  Options
		want string
	}{
		"neither directory nor URL":          {Options{}, "neither a data directory nor a NATS URL"},
		"too many replicas":                  {Options{DataDir: dir, Replicas: 6}, "replicas is 6, want 1 to 5"},
		"a lease shorter than a second":      {Options{DataDir: dir, LeaseTTL: time.Millisecond}, "lease TTL is 1ms"},
		"a file where the directory belongs": {Options{DataDir: blocked}, "data directory"},
		"two ways to authenticate":           {Options{URL: "nats://127.0.0.1:1", Credentials: Credentials{Token: "t", User: "u"}}, "at most one of"},
		"a certificate without its key":      {Options{URL: "nats://127.0.0.1:1", Credentials: Credentials{CertFile: "c"}}, "both its certificate and its key"},
		"an nkey file that is missing":       {Options{URL: "nats://127.0.0.1:1", Credentials: Credentials{NKeyFile: filepath.Join(dir, "no")}}, "nkey file"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Open(t.Context(), tt.opt)
			if err == nil {
				f.Close()
				t.Fatal("was accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestAnExternalServerThatRefusesUsIsNamedWithoutTheSecret(t *testing.T) {
	opt := jetStream(t)
	opt.Username, opt.Password = "tabard", "right-password"
	_, url := external(t, opt)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	host := strings.TrimPrefix(url, "nats://")

	_, err := Open(t.Context(), Options{URL: "nats://tabard:wrong-secret@" + host, Log: logger})
	if err == nil || !strings.Contains(err.Error(), host) || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("error is %v, want host and reason", err)
	}
	_, err2 := Open(t.Context(), Options{URL: url, Credentials: Credentials{User: "tabard", Password: "wrong-secret"}, Log: logger})
	if all := fmt.Sprint(err, err2, log.String()); strings.Contains(all, "wrong-secret") {
		t.Errorf("the password shows: %s", all)
	}
	put(t, open(t, Options{URL: url, Credentials: Credentials{User: "tabard", Password: "right-password"}}), "b", "k", "v")

	_, noJS := external(t, server.Options{})
	if _, err := Open(t.Context(), Options{URL: noJS}); err == nil || !strings.Contains(err.Error(), "does not offer JetStream") {
		t.Errorf("without JetStream the error is %v", err)
	}
	if _, err := Open(t.Context(), Options{URL: "nats://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("without a server the error is %v", err)
	}
}

func TestRedactKeepsTheHost(t *testing.T) {
	for in, want := range map[string]string{
		"nats://h:4222":                    "nats://h:4222",
		"nats://u:p@h:4222":                "nats://h:4222",
		"tls://token@h":                    "tls://h",
		"u:p@h:4222":                       "h:4222",
		"h:4222":                           "h:4222",
		"h":                                "h",
		"nats://u:p@a:1, nats://u:p@b:2":   "nats://a:1,nats://b:2",
		"nats://u:p%zz@h":                  "(unreadable address)",
		"nats://u:p@a:1,nats://[::1]:4222": "nats://a:1,nats://[::1]:4222",
	} {
		if got := redact(in); got != want {
			t.Errorf("redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestASecondNodeOnOneExternalServerRefusesToStart(t *testing.T) {
	_, url := external(t, jetStream(t))
	first := open(t, Options{URL: url, LeaseTTL: time.Second})
	_, err := Open(t.Context(), Options{URL: url, LeaseTTL: time.Second})
	var held *InUseError
	if !errors.As(err, &held) || !strings.Contains(err.Error(), holderName()) || !strings.Contains(err.Error(), url) {
		t.Fatalf("error is %v, want an InUseError with server and holder", err)
	}
	select {
	case <-first.Lost():
		t.Error("the first node lost its lease to a node that was refused")
	default:
	}
	first.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond) // less than the lease lives
	defer cancel()
	second, err := Open(ctx, Options{URL: url})
	if err != nil {
		t.Fatalf("after the first node stopped: %v", err)
	}
	second.Close()
}

func TestTheLeaseOfACrashedNodeExpires(t *testing.T) {
	_, url := external(t, jetStream(t))
	crashed := open(t, Options{URL: url, LeaseTTL: time.Second})
	crashed.lease.cancel() // it renews nothing any more, and releases nothing before the next has come
	crashed.lease.done.Wait()
	begin := time.Now()
	open(t, Options{URL: url})
	if waited := time.Since(begin); waited > 10*time.Second {
		t.Errorf("took %v, want about the lease's second", waited)
	}
}

func TestAWaitForACrashedNodesLeaseCanBeCancelled(t *testing.T) {
	_, url := external(t, jetStream(t))
	crashed := open(t, Options{URL: url, LeaseTTL: time.Minute})
	crashed.lease.cancel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, Options{URL: url})
	var held *InUseError
	if !errors.As(err, &held) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want an InUseError that wraps the deadline", err)
	}
}

func TestANodeWhoseLeaseAnotherTookLearnsIt(t *testing.T) {
	_, url := external(t, jetStream(t))
	f := open(t, Options{URL: url, LeaseTTL: time.Second})
	kv, err := f.js.KeyValue(t.Context(), leaseBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), leaseKey, `{"node":"other","where":"process 1 on elsewhere"}`); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.Lost():
	case <-time.After(20 * time.Second):
		t.Fatal("the node does not notice")
	}
	f.Close()                                                 // must not take the other's lease away
	other := open(t, Options{URL: url, DataDir: t.TempDir()}) // waits until the other's has expired: nobody renews it
	other.Close()
}

func TestAnOutageOfTheExternalServerIsSurvived(t *testing.T) {
	opt := jetStream(t)
	srv, url := external(t, opt)
	f := open(t, Options{URL: url, LeaseTTL: time.Second})
	put(t, f, "b", "k", "before")
	opt.Port = srv.Addr().(*net.TCPAddr).Port
	srv.Shutdown()
	srv.WaitForShutdown()
	eventually(t, "the connection notices", func() bool { return !f.conn.IsConnected() })
	if _, err := f.js.Publish(t.Context(), "$KV.b.k", []byte("during")); err == nil {
		t.Error("a write during the outage was accepted")
	}
	external(t, opt)
	eventually(t, "the connection is back", f.conn.IsConnected)
	// Long enough away, the lease has expired on the server; taking it again must not end the node.
	eventually(t, "the lease is renewed", func() bool {
		kv, err := f.js.KeyValue(t.Context(), leaseBucket)
		if err != nil {
			return false
		}
		entry, err := kv.Get(t.Context(), leaseKey)
		return err == nil && time.Since(entry.Created()) < 200*time.Millisecond
	})
	select {
	case <-f.Lost():
		t.Error("the node gave up")
	default:
	}
	if got := get(t, f, "b", "k"); got != "before" {
		t.Errorf("after the outage the value is %q, want the one from before", got)
	}
}

func TestAnExpiredLeaseIsTakenAgain(t *testing.T) {
	_, url := external(t, jetStream(t))
	f := open(t, Options{URL: url, LeaseTTL: time.Second})
	kv, err := f.js.KeyValue(t.Context(), leaseBucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), leaseKey); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key is back", func() bool {
		entry, err := kv.Get(t.Context(), leaseKey)
		return err == nil && bytes.Equal(entry.Value(), f.lease.value)
	})
}
