package tabard

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabard/internal/store/transittest"
)

func TestAMasterKeyMovesIntoAKeyServiceAndStaysThere(t *testing.T) {
	server := transittest.Start(t, "s.right")
	dir := t.TempDir()
	ca := filepath.Join(dir, "kms-ca.pem")
	server.WriteCA(ca)
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte("s.right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")

	first := serve(t, Config{Data: data}) // sealed under a key file
	tenant := first.TenantID
	first.stop()
	kms := Config{Data: data, MasterKeyURI: server.URI("transit/keys/tabard"), MasterKeyTokenFile: tokenFile, HandlerCA: ca}

	server.Fail(503)
	if s, err := New(kms, nil); err == nil {
		_ = s.Close()
		t.Error("started without the key service")
	} else if !strings.Contains(err.Error(), "503") {
		t.Errorf("the error does not say what the key service answers: %v", err)
	}
	server.Fail(0)
	second := serve(t, kms) // moves
	if second.TenantID != tenant {
		t.Error("another installation")
	}
	second.stop()
	if err := os.Remove(filepath.Join(data, "master.key")); err != nil {
		t.Fatal(err)
	}
	third := serve(t, kms)
	server.Rotate()
	status, text := third.call("POST", third.AdminURL+"/tabard/v1/masterKey/rotate", third.AdminToken, "")
	if status != 200 || !strings.Contains(text, "hcvault://") {
		t.Errorf("rotation: %d %s", status, text)
	}
	third.stop()
	server.ForgetFirstVersion()
	fourth := serve(t, kms)
	if fourth.TenantID != tenant {
		t.Error("another installation")
	}
	fourth.stop()
	if _, err := os.Stat(filepath.Join(data, "master.key")); err == nil {
		t.Error("a key file was made although a key service has the key")
	}
	withToken := kms
	withToken.MasterKeyTokenFile, withToken.MasterKeyToken = "", "s.wrong"
	if s, err := New(withToken, nil); err == nil {
		_ = s.Close()
		t.Error("started with a wrong token")
	} else if strings.Contains(err.Error(), "s.wrong") || !strings.Contains(err.Error(), "403") {
		t.Errorf("a wrong token: %v", err)
	}
}

func TestAMasterKeyMayBeNamedByURI(t *testing.T) {
	dir := t.TempDir()
	file := Config{Data: filepath.Join(dir, "a"), MasterKeyURI: "file://" + filepath.ToSlash(filepath.Join(dir, "key"))}
	serve(t, file).stop()
	if info, err := os.Stat(filepath.Join(dir, "key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", info, err)
	}
	serve(t, file).stop()

	t.Setenv("TEST_MASTER_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	env := Config{Data: filepath.Join(dir, "b"), MasterKeyURI: "env://TEST_MASTER_KEY"}
	s := serve(t, env)
	if status, _ := s.call("POST", s.AdminURL+"/tabard/v1/masterKey/rotate", s.AdminToken, ""); status != 409 {
		t.Errorf("a value was rotated: %d", status)
	}
	s.stop()
	t.Setenv("TEST_MASTER_KEY", "")
	if s, err := New(env, nil); err == nil {
		_ = s.Close()
		t.Error("started with an empty key")
	} else if !strings.Contains(err.Error(), "TEST_MASTER_KEY is empty") {
		t.Errorf("an empty key: %v", err)
	}
}

func TestFaultsOfAMasterKeysURI(t *testing.T) {
	for _, tc := range []struct {
		source MasterKeySource
		want   string // of the fault; empty: none
	}{
		{MasterKeySource{}, ""}, {MasterKeySource{URI: "file:///etc/key"}, ""}, {MasterKeySource{URI: "env://KEY"}, ""},
		{MasterKeySource{URI: "hcvault://v.example/transit/keys/k", TokenFile: "t"}, ""},
		{MasterKeySource{URI: "file://key"}, "is not file:///PATH"}, {MasterKeySource{URI: "env://"}, "is not env://NAME"},
		{MasterKeySource{URI: "hcvault://v.example/k"}, "has no path like"}, {MasterKeySource{URI: "aws-kms://arn"}, "is none of"},
		{MasterKeySource{URI: "env://KEY", Value: "x"}, "give one"}, {MasterKeySource{URI: "env://KEY", File: "x"}, "give one"},
		{MasterKeySource{TokenFile: "t"}, "needs master-key-uri"}, {MasterKeySource{URI: "\x00"}, "is not a URI"},
	} {
		if got := tc.source.fault(); got != tc.want && (tc.want == "" || !strings.Contains(got, tc.want)) {
			t.Errorf("%+v: %q, want %q", tc.source, got, tc.want)
		}
	}
}
