package tabard

import (
	"net/http"
	"strings"
	"testing"

	"tabard/internal/audit"
	"tabard/internal/rbac"
)

func TestRecordsNameThePrincipalThatATokenProves(t *testing.T) {
	s := serve(t, Config{})
	group := "/subscriptions/" + s.SubscriptionID + "/resourceGroups/default"
	hub := group + "/providers/Microsoft.SignalRService/webPubSub/default/hubs/chat?api-version=2024-03-01"
	contributor, nobody := s.principal("contributor"), s.principal("nobody")
	s.assign(contributor, rbac.Contributor, group)
	for _, who := range []string{contributor, nobody} {
		s.call(http.MethodPut, s.AdminURL+hub, s.token(who, armResource), `{"properties":{}}`)
	}
	s.call(http.MethodPut, s.AdminURL+hub, s.token(contributor, "https://vault.azure.net"), `{"properties":{}}`) // not for here
	s.vaultCall("default", http.MethodPut, "/secrets/n", s.token(nobody, "https://vault.azure.net"), `{"value":"v"}`)

	found, _, err := s.audit.Find(t.Context(), audit.Query{Limit: 10})
	if err != nil || len(found) != 4 {
		t.Fatalf("%d records, %v", len(found), err)
	}
	for i, want := range []struct {
		oid    string
		status int
		name   string
	}{{nobody, 403, "setSecret"}, {"", 401, "hubs"}, {nobody, 403, "hubs"}, {contributor, 201, "hubs"}} {
		r := found[i]
		if r.Caller.ObjectID != want.oid || r.Caller.Admin || r.Status != want.status || !strings.Contains(r.Operation, want.name) || (want.oid != "") != (r.Caller.AppID != "" && r.Caller.TenantID == s.TenantID) {
			t.Errorf("record %d is %+v, want %+v", i, r, want)
		}
	}
}
