package main

import (
	"errors"
	"strings"
	"testing"

	"tabard/internal/wire"
)

func TestConnectionStringsAreReadAsTheSDKsReadThem(t *testing.T) {
	for _, c := range []struct {
		name, text, origin, key, fault string
	}{
		{"as Azure prints it", "Endpoint=https://a.webpubsub.azure.com;AccessKey=abc=;Version=1.0;", "https://a.webpubsub.azure.com", "abc=", ""},
		{"plain http with a port and a slash", "Endpoint=http://127.0.0.1:8080/;AccessKey=k;Version=1.0;", "http://127.0.0.1:8080", "k", ""},
		{"names in any case, in any order, spaces around them", " accesskey=k; ENDPOINT =http://h", "http://h", "k", ""},
		{"no scheme means https", "Endpoint=a.example;AccessKey=k", "https://a.example", "k", ""},
		{"Port replaces the port of the endpoint", "Endpoint=https://a.example:1;AccessKey=k;Port=8443", "https://a.example:8443", "k", ""},
		{"Port beside an IPv6 address", "Endpoint=http://[::1];AccessKey=k;Port=8080", "http://[::1]:8080", "k", ""},
		{"a Port that is none", "Endpoint=http://h;AccessKey=k;Port=/", "", "", "Port is not a number"},
		{"a Port that is too large", "Endpoint=http://h;AccessKey=k;Port=65536", "", "", "Port is not a number"},
		{"no endpoint", "AccessKey=k", "", "", "no usable Endpoint"},
		{"an endpoint of another scheme", "Endpoint=ftp://a;AccessKey=k", "", "", "no usable Endpoint"},
		{"no key", "Endpoint=http://h", "", "", "no AccessKey"},
		{"a part without =", "Endpoint=http://h;secret", "", "", `without "="`},
		{"nothing", "", "", "", "no usable Endpoint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := parseConnectionString(c.text)
			if c.fault != "" {
				var f *failure
				if !errors.As(err, &f) || f.code != exitUsage || !strings.Contains(f.message, c.fault) || strings.Contains(f.message+f.hint, "secret") {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil || e.origin != c.origin || e.key != c.key {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

func FuzzConnectionString(f *testing.F) {
	f.Add("Endpoint=https://a.webpubsub.azure.com;AccessKey=abc=;Version=1.0;Port=1;")
	f.Add(";;=;Endpoint==")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseConnectionString(text)
		if err == nil && (e.key == "" || !strings.HasPrefix(e.origin, "http") || strings.HasSuffix(e.origin, "/")) {
			t.Errorf("%q gave %+v", text, e)
		}
	})
}

// The token was made outside Go, with Python's hmac, of the same claims and key: the key is text, not base64.
func TestAClientTokenIsSignedAsSDKsSignIt(t *testing.T) {
	e := &endpoint{origin: "http://127.0.0.1:8080", key: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq="}
	token := wire.Sign(e.key, clientClaims{Audience: e.clientURL("chat"), Issued: 1790000000, Expires: 1790003600, Subject: "ann",
		Roles: []string{"webpubsub.sendToGroup"}, Groups: []string{"g<1>"}})
	if token != wantToken {
		t.Errorf("got  %s\nwant %s", token, wantToken)
	}
}

func TestClientAddresses(t *testing.T) {
	e := &endpoint{origin: "https://a.example:8443"}
	if got := webSocket(e.clientURL("a[1]")); got != "wss://a.example:8443/client/hubs/a%5B1%5D" {
		t.Error(got)
	}
}

const wantToken = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiJodHRwOi8vMTI3LjAuMC4xOjgwODAvY2xpZW50L2h1YnMvY2hhdCIsImlhdCI6MTc5MDAwMDAwMCwiZXhwIjoxNzkwMDAzNjAwLCJzdWIiOiJhbm4iLCJyb2xlIjpbIndlYnB1YnN1Yi5zZW5kVG9Hcm91cCJdLCJ3ZWJwdWJzdWIuZ3JvdXAiOlsiZ1x1MDAzYzFcdTAwM2UiXX0.yZ6uFuL1erO_uUurO7f8lguxKAJ650oHnpoQnkl_RG8"
