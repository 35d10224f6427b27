package arm

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// certificates is what the listeners would say: bad ones by name.
type certificates struct {
	bad    map[string]string
	loaded []string
}

func (f *certificates) Load(_ context.Context, in *settings.Instance, c *settings.CustomCertificate) error {
	f.loaded = append(f.loaded, in.Name+"/"+c.Name)
	return f.Problem(in, c)
}

func (f *certificates) Problem(_ *settings.Instance, c *settings.CustomCertificate) error {
	if why, ok := f.bad[c.Name]; ok {
		return errors.New(why)
	}
	return nil
}

func (f *certificates) DomainProblem(in *settings.Instance, d *settings.CustomDomain) error {
	c, ok := in.Certificate(d)
	if !ok {
		return errors.New("no certificate")
	}
	return f.Problem(in, c)
}

func TestWhatLiesBelowAnInstanceIsKept(t *testing.T) {
	served := &certificates{bad: map[string]string{}}
	p := start(t, func(o *Options) { o.Certificates = served })
	id := strings.Replace(theDefault, "webPubSub", "WebPubSub", 1)

	cert := `{"properties":{"keyVaultBaseUri":"https://v.vault.azure.net/","keyVaultSecretName":"cert","provisioningState":"Failed"}}`
	p.do("PUT", theDefault+"/customCertificates/Main"+version, cert).want(201).is("name", "Main").is("type", "Microsoft.SignalRService/WebPubSub/customCertificates").
		is("id", id+"/customCertificates/Main").is("properties", map[string]any{"keyVaultBaseUri": "https://v.vault.azure.net/", "keyVaultSecretName": "cert", "provisioningState": "Succeeded"})
	if len(served.loaded) != 1 || served.loaded[0] != "default/Main" {
		t.Errorf("read: %v", served.loaded)
	}
	p.do("PUT", theDefault+"/customCertificates/main"+version, strings.Replace(cert, `"provisioningState":"Failed"`, `"keyVaultSecretVersion":"0123456789abcdef0123456789abcdef"`, 1)).want(200).is("name", "Main")
	p.do("PUT", theDefault+"/customCertificates/main"+version, strings.Replace(cert, "v.vault", "w.vault", 1)).refused(400, "BadRequest").is("error.target", "properties.keyVaultBaseUri")
	p.do("PUT", theDefault+"/customCertificates/main"+version, `{}`).refused(400, "BadRequest").is("error.target", "properties")

	domain := func(cert string) string {
		return `{"properties":{"domainName":"WPS.example.com","customCertificate":{"id":"` + cert + `"}}}`
	}
	p.do("PUT", theDefault+"/customDomains/d"+version, domain(id+"/customCertificates/none")).refused(400, "BadRequest").is("error.target", "properties.customCertificate.id")
	p.do("PUT", theDefault+"/customDomains/d"+version, domain(strings.ToUpper(id)+"/customCertificates/main")).want(201).is("properties.domainName", "wps.example.com")
	p.do("PUT", theDefault+"/customDomains/d"+version, domain(id+"/customCertificates/main")).want(201)
	p.do("DELETE", theDefault+"/customCertificates/main"+version, "").refused(409, "ResourceInUse")
	if in, ok := p.settings.Snapshot().InstanceOf("WPS.example.com."); !ok || in.Name != "default" {
		t.Error("nobody has the domain")
	}

	// A domain is one instance's, and a certificate of another instance is not at hand.
	p.do("PUT", webPubSubs+"/other"+version, `{"location":"local"}`).want(201)
	p.do("PUT", webPubSubs+"/other/customCertificates/c"+version, cert).want(201)
	p.do("PUT", webPubSubs+"/other/customDomains/d"+version, domain(id+"/customCertificates/main")).refused(400, "BadRequest")
	p.do("PUT", webPubSubs+"/other/customDomains/d"+version, domain(strings.Replace(id, "/default", "/other", 1)+"/customCertificates/c")).refused(400, "BadRequest")
	other := strings.TrimSuffix(id, "/default") + "/other/customCertificates/c"
	p.do("PUT", webPubSubs+"/other/customDomains/d"+version, domain(other)).refused(400, "BadRequest").is("error.target", "properties.domainName")

	link := `{"properties":{"groupId":"vault","privateLinkResourceId":"/subscriptions/x/vaults/v","requestMessage":"please","status":"Rejected"}}`
	if got := p.do("PUT", theDefault+"/sharedPrivateLinkResources/link"+version, link).want(201).is("properties.status", "Approved").is("properties.provisioningState", "Succeeded").warnings(); len(got) != 1 {
		t.Errorf("warnings %q", got)
	}
	p.do("PUT", theDefault+"/sharedPrivateLinkResources/x"+version, link).refused(400, "BadRequest").is("error.target", "name")
	p.do("PUT", theDefault+"/sharedPrivateLinkResources/link"+version, `{"properties":{"groupId":"sites"}}`).refused(400, "BadRequest")

	for _, kind := range []string{"customCertificates", "customDomains", "sharedPrivateLinkResources"} {
		if n := len(p.do("GET", theDefault+"/"+kind+version, "").want(200).items()); n != 1 {
			t.Errorf("%d %s", n, kind)
		}
		p.do("GET", theDefault+"/"+kind+"/missing"+version, "").refused(404, "ResourceNotFound")
		p.do("GET", webPubSubs+"/nobody/"+kind+"/missing"+version, "").refused(404, "ParentResourceNotFound")
		p.do("DELETE", theDefault+"/"+kind+"/missing"+version, "").want(204)
	}
	p.do("GET", theDefault+version, "").want(200).is("properties.sharedPrivateLinkResources", []any{map[string]any{
		"id": id + "/sharedPrivateLinkResources/link", "name": "link", "type": "Microsoft.SignalRService/WebPubSub/sharedPrivateLinkResources",
		"properties": map[string]any{"groupId": "vault", "privateLinkResourceId": "/subscriptions/x/vaults/v", "requestMessage": "please", "status": "Approved", "provisioningState": "Succeeded"},
	}})
	// Everything stays when the instance is replaced, and goes with it.
	p.do("PUT", theDefault+version, `{"location":"local"}`).want(200)
	p.do("GET", theDefault+"/customDomains/D"+version, "").want(200)
	p.do("PUT", theDefault+"/replicas/here"+version, `{"location":"local"}`).refused(400, "FeatureNotSupported")
}

func TestACertificateThatCannotBeServedSaysWhyWherePollersLook(t *testing.T) {
	served := &certificates{bad: map[string]string{"broken": "the secret holds no private key"}}
	p := start(t, func(o *Options) { o.Certificates = served })
	a := p.do("PUT", theDefault+"/customCertificates/broken"+version, `{"properties":{"keyVaultBaseUri":"https://v.vault.azure.net","keyVaultSecretName":"cert"}}`).want(201).
		is("properties.provisioningState", "Updating")
	path, ok := strings.CutPrefix(a.header.Get("Azure-AsyncOperation"), p.url)
	if !ok {
		t.Fatalf("headers %v", a.header)
	}
	status := p.do("GET", path, "").want(200).is("status", "Failed").is("error.code", "CustomCertificateInvalid")
	if !strings.Contains(status.str("error.message"), "no private key") {
		t.Errorf("%s", status.text)
	}
	name := status.str("name")
	p.do("GET", strings.TrimPrefix(a.header.Get("Location"), p.url), "").refused(400, "CustomCertificateInvalid")
	p.do("GET", sub+"/providers/Microsoft.SignalRService/locations/local/operationStatuses/"+name+version, "").want(200)
	p.do("GET", webPubSubs+"/other/operationStatuses/"+name+version, "").refused(404, "OperationNotFound")
	p.do("GET", theDefault+"/operationResults/00000000-0000-0000-0000-000000000000"+version, "").refused(404, "OperationNotFound")
	p.do("GET", theDefault+"/customCertificates/broken"+version, "").want(200).is("properties.provisioningState", "Failed")
	delete(served.bad, "broken")
	p.do("GET", theDefault+"/customCertificates/broken"+version, "").want(200).is("properties.provisioningState", "Succeeded")

	// The records are bounded: the oldest make room.
	for range maxOperations {
		p.handler.operations.add(&finishedOperation{id: strings.Repeat("x", len(p.handler.operations.order)+1)})
	}
	p.do("GET", path, "").refused(404, "OperationNotFound")
	if n := len(p.handler.operations.byID); n != maxOperations {
		t.Errorf("%d records, want %d", n, maxOperations)
	}
}

func TestPreconditionsAreHeldWithinTheWrite(t *testing.T) {
	p := start(t)
	hub, shop := theDefault+"/hubs/chat"+version, webPubSubs+"/shop"+version
	allow, deny := `{"properties":{"anonymousConnectPolicy":"allow"}}`, `{"properties":{"anonymousConnectPolicy":"deny"}}`

	p.do("PUT", hub, allow, "If-Match", "*").refused(412, "PreconditionFailed")
	first := p.do("PUT", hub, allow, "If-None-Match", "*").want(201).header.Get("ETag")
	if got := p.do("GET", hub, "").header.Get("ETag"); got != first || first == "" {
		t.Errorf("GET has %s, PUT %s", got, first)
	}
	p.do("PUT", hub, deny, "If-None-Match", "*").refused(412, "PreconditionFailed")
	p.do("PUT", theDefault+"/hubs/other"+version, allow).want(201) // another hub is no change of this one
	second := p.do("PUT", hub, deny, "If-Match", first).want(201).header.Get("ETag")
	p.do("PUT", hub, allow, "If-Match", first).refused(412, "PreconditionFailed")
	p.do("GET", hub, "").is("properties.anonymousConnectPolicy", "deny")
	p.do("DELETE", hub, "", "If-Match", first).refused(412, "PreconditionFailed")
	p.do("DELETE", hub, "", "If-Match", `"other", `+second).want(200)
	p.do("DELETE", hub, "", "If-Match", "*").refused(412, "PreconditionFailed")

	p.do("PUT", shop, `{"location":"local"}`, "If-Match", "*").refused(412, "PreconditionFailed")
	first = p.do("PUT", shop, `{"location":"local"}`, "If-None-Match", "*").want(201).header.Get("ETag")
	p.do("PUT", shop, `{"location":"local"}`, "If-None-Match", "*").refused(412, "PreconditionFailed")
	second = p.do("PATCH", shop, `{"tags":{"a":"b"}}`, "If-Match", "W/"+first).want(200).header.Get("ETag")
	p.do("PATCH", shop, `{"tags":{}}`, "If-Match", first).refused(412, "PreconditionFailed")
	p.do("PUT", shop, `{"location":"local"}`, "If-Match", first).refused(412, "PreconditionFailed")
	p.do("DELETE", shop, "", "If-Match", first).refused(412, "PreconditionFailed")
	p.do("GET", shop, "").want(200).is("tags", map[string]any{"a": "b"})
	p.do("DELETE", shop, "", "If-Match", second).want(200)

	link := theDefault + "/sharedPrivateLinkResources/link" + version
	body := `{"properties":{"groupId":"vault","privateLinkResourceId":"x"}}`
	tag := p.do("PUT", link, body, "If-None-Match", "*").want(201).header.Get("ETag")
	p.do("PUT", link, body, "If-None-Match", tag).refused(412, "PreconditionFailed")
	p.do("DELETE", link, "", "If-Match", `"x"`).refused(412, "PreconditionFailed")
	p.do("DELETE", link, "", "If-Match", tag).want(200)
}

func TestHandlersAreAskedWhenAHubIsConfigured(t *testing.T) {
	var mu sync.Mutex // guards asked: handlers are asked at the same time
	asked := map[string]int{}
	down := map[string]bool{"http://down.example/": true}
	p := start(t, func(o *Options) {
		o.CheckHandler = func(_ context.Context, in *settings.Instance, hub string, h *settings.EventHandler) HandlerCheck {
			if h.Template() == nil || hub != "chat" {
				t.Errorf("asked with %+v of %s", h, hub)
			}
			mu.Lock()
			asked[h.URLTemplate]++
			mu.Unlock()
			if down[h.URLTemplate] {
				return HandlerCheck{Code: reason.ValidationHeaderMissing, Status: 200, Detail: "is missing allowed origins"}
			}
			return HandlerCheck{Code: reason.Delivered}
		}
	})
	path := theDefault + "/hubs/chat" + version
	hub := func(urls ...string) string {
		for i, url := range urls {
			urls[i] = `{"urlTemplate":"` + url + `"}`
		}
		return `{"properties":{"eventHandlers":[` + strings.Join(urls, ",") + `]}}`
	}
	if got := p.do("PUT", path, hub("http://up.example/")).want(201).warnings(); len(got) != 0 || asked["http://up.example/"] != 1 {
		t.Errorf("warnings %q, asked %v", got, asked)
	}
	down["http://both.example/"] = true
	got := p.do("PUT", path, hub("http://both.example/", "http://down.example/", "http://both.example/")).want(201).warnings()
	if len(got) != 2 || !strings.Contains(got[1], "eventHandlers[1].urlTemplate did not pass the endpoint validation: is missing allowed origins (validation_header_missing)") || asked["http://both.example/"] != 1 {
		t.Errorf("warnings %q, asked %v", got, asked)
	}

	p.do("PATCH", theDefault+version, `{"properties":{"tabard":{"endpointValidation":"Enforce"}}}`).want(200).is("properties.tabard.endpointValidation", "enforce")
	p.do("PUT", path, hub("http://up.example/", "http://down.example/")).refused(400, "BadRequest").is("error.target", "properties.eventHandlers[1].urlTemplate")
	p.do("GET", path, "").want(200).is("properties.eventHandlers", []any{
		map[string]any{"urlTemplate": "http://both.example/", "systemEvents": []any{}}, map[string]any{"urlTemplate": "http://down.example/", "systemEvents": []any{}}, map[string]any{"urlTemplate": "http://both.example/", "systemEvents": []any{}},
	})
	p.do("PUT", path, hub("http://up.example/")).want(201)

	p.do("PATCH", theDefault+version, `{"properties":{"tabard":{"endpointValidation":"off"}}}`).want(200)
	clear(asked)
	if got := p.do("PUT", path, hub("http://down.example/")).want(201).warnings(); len(got) != 0 || len(asked) != 0 {
		t.Errorf("warnings %q, asked %v", got, asked)
	}
	p.do("PATCH", theDefault+version, `{"properties":{"tabard":{"endpointValidation":"maybe"}}}`).refused(400, "BadRequest").is("error.target", "properties.tabard.endpointValidation")
	p.do("PATCH", theDefault+version, `{"properties":{"tabard":{"maxConnections":-1}}}`).refused(400, "BadRequest").is("error.target", "properties.tabard.maxConnections")
}
