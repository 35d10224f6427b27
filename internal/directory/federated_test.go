package directory

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const senderID = "/subscriptions/dddd0000-0000-4000-8000-00000000000d/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/sender"

func TestFederatedCredentialsOfApplicationsAndUserAssignedIdentities(t *testing.T) {
	d := open(t)
	a, _ := register(t, d, "orders")
	if _, _, err := d.PutUserAssignedIdentity(t.Context(), UserAssignedIdentity{ID: senderID, Location: "local"}); err != nil {
		t.Fatal(err)
	}
	for _, owner := range []string{a.ID, strings.ToUpper(a.AppID), senderID, strings.ToLower(senderID)} {
		t.Run(owner, func(t *testing.T) {
			f := FederatedCredential{Name: "cluster", Issuer: "https://oidc.example/cluster/", Subject: "system:serviceaccount:default:sender", Description: "the cluster's"}
			got := must(d.CreateFederatedCredential(t.Context(), owner, f))(t)
			if !guid.MatchString(got.ID) || !slices.Equal(got.Audiences, []string{TokenExchange}) || got.Issuer != f.Issuer || got.Subject != f.Subject {
				t.Fatalf("%+v", got)
			}
			_, err := d.CreateFederatedCredential(t.Context(), owner, FederatedCredential{Name: "Cluster", Issuer: f.Issuer, Subject: "x"})
			wantErr(t, err, ErrConflict)
			_, _, err = d.PutFederatedCredential(t.Context(), owner, FederatedCredential{Name: "other", Issuer: f.Issuer, Subject: f.Subject, Audiences: []string{"other"}})
			wantErr(t, err, ErrConflict)
			put, created, err := d.PutFederatedCredential(t.Context(), owner, FederatedCredential{Name: "CLUSTER", Issuer: f.Issuer, Subject: "moved", Audiences: []string{"x"}})
			if err != nil || created || put.ID != got.ID || put.Name != "cluster" || put.Subject != "moved" {
				t.Fatalf("%+v, %v, %v", put, created, err)
			}
			list := must(d.FederatedCredentials(owner))(t)
			if !reflect.DeepEqual(list, []FederatedCredential{put}) {
				t.Errorf("listed: %+v", list)
			}
			list[0].Audiences[0] = "changed by a reader"
			if list := must(d.FederatedCredentials(owner))(t); !slices.Equal(list[0].Audiences, []string{"x"}) {
				t.Error("readers share what is stored")
			}
			// Replacing the owner keeps them.
			if strings.HasPrefix(owner, "/") {
				_, _, err = d.PutUserAssignedIdentity(t.Context(), UserAssignedIdentity{ID: senderID, Location: "local", Tags: map[string]string{"a": "b"}})
			} else {
				_, err = d.UpdateApplication(t.Context(), owner, func(a *Application) error { a.FederatedCredentials = nil; return nil })
			}
			if err != nil || len(must(d.FederatedCredentials(owner))(t)) != 1 {
				t.Errorf("after an update: %v", err)
			}
			if err := d.DeleteFederatedCredential(t.Context(), owner, "cluster"); err != nil {
				t.Fatal(err)
			}
			wantErr(t, d.DeleteFederatedCredential(t.Context(), owner, got.ID), ErrNotFound)
		})
	}
	for _, nobody := range []string{"", "nobody", "/nobody"} {
		_, err := d.FederatedCredentials(nobody)
		wantErr(t, err, ErrNotFound)
		_, err = d.CreateFederatedCredential(t.Context(), nobody, FederatedCredential{Name: "abc", Issuer: "https://a", Subject: "b"})
		wantErr(t, err, ErrNotFound)
	}
}

func TestA31AFederatedCredentialTooMany(t *testing.T) {
	d := open(t)
	a, _ := register(t, d, "orders")
	for i := range MaxFederatedCredentials {
		must(d.CreateFederatedCredential(t.Context(), a.ID, FederatedCredential{Name: fmt.Sprintf("name-%d", i), Issuer: "https://issuer.example", Subject: fmt.Sprint(i)}))(t)
	}
	_, err := d.CreateFederatedCredential(t.Context(), a.ID, FederatedCredential{Name: "name-20", Issuer: "https://issuer.example", Subject: "20"})
	var invalid *ValidationError
	if !errors.As(err, &invalid) || !strings.Contains(err.Error(), "at most 20") {
		t.Errorf("the 21st: %v", err)
	}
	if _, created, err := d.PutFederatedCredential(t.Context(), a.ID, FederatedCredential{Name: "name-3", Issuer: "https://issuer.example", Subject: "changed"}); err != nil || created {
		t.Errorf("replacing one of them: %v", err)
	}
	_, _, err = d.PutFederatedCredential(t.Context(), a.ID, FederatedCredential{Name: "name-4", Issuer: "https://issuer.example", Subject: "changed"})
	wantErr(t, err, ErrConflict) // the pair of issuer and subject is name-3's
}

func TestFaultsOfAFederatedCredentialAreAllNamedAtOnce(t *testing.T) {
	d := open(t)
	a, _ := register(t, d, "orders")
	good := FederatedCredential{Name: "cluster", Issuer: "https://issuer.example", Subject: "s"}
	for _, row := range []struct {
		name   string
		edit   func(*FederatedCredential)
		fields []string
	}{
		{"nothing is there", func(f *FederatedCredential) { *f = FederatedCredential{} }, []string{"name", "issuer", "subject"}},
		{"a short name", func(f *FederatedCredential) { f.Name = "ab" }, []string{"name"}},
		{"a name that begins with a dash", func(f *FederatedCredential) { f.Name = "-abc" }, []string{"name"}},
		{"a long name", func(f *FederatedCredential) { f.Name = strings.Repeat("a", 121) }, []string{"name"}},
		{"an issuer with http", func(f *FederatedCredential) { f.Issuer = "http://issuer.example" }, []string{"issuer"}},
		{"an issuer with user info", func(f *FederatedCredential) { f.Issuer = "https://a:b@issuer.example" }, []string{"issuer"}},
		{"an issuer with a query", func(f *FederatedCredential) { f.Issuer = "https://issuer.example?a" }, []string{"issuer"}},
		{"an issuer with a fragment", func(f *FederatedCredential) { f.Issuer = "https://issuer.example/#" }, []string{"issuer"}},
		{"an issuer that is a name", func(f *FederatedCredential) { f.Issuer = "kubernetes/serviceaccount" }, []string{"issuer"}},
		{"an issuer without a host", func(f *FederatedCredential) { f.Issuer = "https:///x" }, []string{"issuer"}},
		{"white space around", func(f *FederatedCredential) { f.Issuer += " "; f.Subject = "\u00a0s"; f.Audiences = []string{"a\n"} }, []string{"issuer", "subject", "audiences[0]"}},
		{"long texts", func(f *FederatedCredential) {
			f.Subject, f.Description = strings.Repeat("ä", 601), strings.Repeat("a", 601)
		}, []string{"subject", "description"}},
		{"600 characters are fine", func(f *FederatedCredential) { f.Subject = strings.Repeat("ä", 600) }, nil},
		{"two audiences", func(f *FederatedCredential) { f.Audiences = []string{"a", "b"} }, []string{"audiences"}},
		{"an empty audience", func(f *FederatedCredential) { f.Audiences = []string{""} }, []string{"audiences[0]"}},
	} {
		f := good
		row.edit(&f)
		_, err := d.CreateFederatedCredential(t.Context(), a.ID, f)
		if got := fields(err); !slices.Equal(got, row.fields) {
			t.Errorf("%s: faults %q, want %q (%v)", row.name, got, row.fields, err)
		}
	}
}
