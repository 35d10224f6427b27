package eventhandler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// vaultError is what a source of secrets returns when it knows why.
type vaultError struct{ code reason.Code }

func (e *vaultError) Error() string       { return "the vault says no" }
func (e *vaultError) Reason() reason.Code { return e.code }

func TestAVaultsReasonIsTheEvents(t *testing.T) {
	w, h := oneHandler(t, nil)
	w.hub("chat", all(h.URL+"/api?code={@Microsoft.KeyVault(SecretUri="+secretURI+")}"))
	for _, code := range []reason.Code{reason.SecretDenied, reason.SecretNotFound, reason.SecretHostNotAllowed} {
		w.d.opt.Secrets = func(context.Context, *settings.Instance, string) (string, error) {
			return "", fmt.Errorf("wrapped: %w", &vaultError{code})
		}
		w.failed(second(w.send(w.session(), "hi")), code)
	}
	w.d.opt.Secrets = func(context.Context, *settings.Instance, string) (string, error) { return "", errors.New("x") }
	w.failed(second(w.send(w.session(), "hi")), reason.SecretUnavailable)
	if len(h.got) != 0 {
		t.Errorf("the handler got %+v", h.got)
	}
}

func TestSeveralSecretsStandWhereTheyBelongAndEachChangeCounts(t *testing.T) {
	const other = "https://v.vault.azure.net/secrets/other"
	w, h := oneHandler(t, nil)
	w.hub("chat", all(h.URL+"/{@Microsoft.KeyVault(SecretUri="+other+")}?a={@Microsoft.KeyVault(SecretUri="+secretURI+")}&b={@Microsoft.KeyVault(SecretUri="+other+")}"))
	for _, v := range [][2]string{{"one", "x"}, {"one", "y"}, {"two", "y"}, {"two", "y"}, {"y", "two"}} {
		w.mu.Lock()
		w.secrets[secretURI], w.secrets[other] = v[0], v[1]
		w.mu.Unlock()
		if _, err := w.send(w.session(), "hi"); err != nil {
			t.Fatal(err)
		}
		calls := h.calls("POST")
		if got, want := calls[len(calls)-1].path, "/"+v[1]+"?a="+v[0]+"&b="+v[1]; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if n := len(h.calls("OPTIONS")); n != 4 {
		t.Errorf("%d validations, want one for each URL", n)
	}
}

func TestAHandlersRefusalIsToldToTheSourceOfSecrets(t *testing.T) {
	w, h := oneHandler(t, func(rw http.ResponseWriter, _ *http.Request, _ string) { rw.WriteHeader(403) })
	h.option = func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("WebHook-Allowed-Origin", "*") }
	var told []string
	w.d.opt.SecretsRejected = func(_ *settings.Instance, uris []string) { told = append(told, uris...) }
	w.secrets[secretURI] = "old"
	w.hub("chat", all(h.URL+"/?code={@Microsoft.KeyVault(SecretUri="+secretURI+")}"))
	w.failed(second(w.send(w.session(), "hi")), reason.HandlerForbidden)
	if !slices.Equal(told, []string{secretURI}) {
		t.Errorf("told %v", told)
	}
	w.hub("chat", all(h.URL+"/"))
	w.failed(second(w.send(w.session(), "hi")), reason.HandlerForbidden)
	if len(told) != 1 {
		t.Errorf("told %v, without a reference", told)
	}
}
