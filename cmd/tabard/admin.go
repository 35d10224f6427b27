package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tabard"
)

const (
	defaultData = ".tabard"
	// maxAnswer bounds what is read of one answer.
	maxAnswer = 8 << 20
	// callTimeout bounds one request that is no stream.
	callTimeout = 30 * time.Second
)

// dataFlags say where a service of this machine keeps its ready file.
type dataFlags struct {
	Data string `help:"Data directory of the service; its ready.json tells where the service is." default:".tabard" env:"TABARD_DATA" placeholder:"DIR" group:"service"`
}

// adminFlags find the running service.
type adminFlags struct {
	dataFlags
	AdminURL   string `name:"admin-url" help:"Admin address of the service; default from DATA/ready.json." env:"TABARD_ADMIN_URL" placeholder:"URL" group:"service"`
	AdminToken string `help:"Admin token; default from DATA/ready.json if that is the same service." env:"TABARD_ADMIN_TOKEN" placeholder:"TOKEN" group:"service"`
	CA         string `name:"ca" help:"PEM file of the authority to trust for https; default from DATA/ready.json." env:"TABARD_CA" placeholder:"FILE" group:"service"`
}

// instanceFlags choose one instance of it.
type instanceFlags struct {
	adminFlags
	Instance string `help:"Name or ARM id of the instance." default:"default" env:"TABARD_INSTANCE" placeholder:"NAME" group:"service"`
}

// jsonFlag makes a command print its result for programs.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// ready reads what the service that runs on Data told its users.
func (f dataFlags) ready() (tabard.Ready, error) {
	var r tabard.Ready
	name := filepath.Join(f.Data, "ready.json")
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fail(exitUnreachable, "start one with `tabard dev`, or say where it is with --data, or with --admin-url and --admin-token",
			"no service has run on %s: there is no %s", f.Data, name)
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// An admin is a client of a service's admin address.
type admin struct {
	base  string // origin without a slash at the end
	host  string // what requests name as their host; empty: that of base
	token string
	http  *http.Client
	ready tabard.Ready // zero if no ready file describes this service
	stdio *stdio       // warnings of the service go to its err
}

// open finds the service. It sends nothing.
func (f adminFlags) open(s *stdio) (*admin, error) {
	ready, err := f.ready()
	if err != nil && f.AdminURL == "" {
		return nil, err
	}
	base := strings.TrimRight(f.AdminURL, "/")
	switch {
	case base == "":
		base = ready.AdminURL
	case base != ready.AdminURL && base != ready.AdminHTTPSURL:
		ready = tabard.Ready{} // another service: its token is none of ours to send there
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fail(exitUsage, "it looks like http://127.0.0.1:8081", "%q is not an admin URL", base)
	}
	token := f.AdminToken
	if token == "" {
		token = ready.AdminToken
	}
	if token == "" {
		return nil, fail(exitUsage, "give --admin-token or TABARD_ADMIN_TOKEN; on the service's machine `tabard admin token show` prints it",
			"no admin token for %s", base)
	}
	client, err := f.client(ready)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		s.note("warning: %s is not encrypted: whoever listens on the way can take the admin token", base)
	}
	return &admin{base: base, token: token, http: client, ready: ready, stdio: s}, nil
}

// isLoopback tells whether the host is this machine, as dial understands names.
func isLoopback(host string) bool {
	host = strings.ToLower(host)
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// client makes an HTTP client that trusts the service's own authority besides the system's.
func (f adminFlags) client(ready tabard.Ready) (*http.Client, error) {
	tlsConfig, err := trust(f.CA, ready.CAFile)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dial, TLSClientConfig: tlsConfig,
			TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true, DisableKeepAlives: true,
		},
		// A redirect could carry the credential elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// trust adds a PEM file to the system's authorities: the one that is named, or else the service's own, which may be
// gone when the ready file is an old one.
func trust(named, own string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	file := named
	if file == "" {
		file = own
	}
	if file == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(file)
	if named == "" && errors.Is(err, fs.ErrNotExist) {
		return cfg, nil
	}
	if err != nil {
		return nil, err
	}
	if cfg.RootCAs, err = x509.SystemCertPool(); err != nil {
		cfg.RootCAs = x509.NewCertPool()
	}
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fail(exitUsage, "", "%s holds no PEM certificate", file)
	}
	return cfg, nil
}

// dial is the network's dial, save that names below localhost, which instances have and many resolvers do not
// know, are this machine (RFC 6761 section 6.3).
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if host, port, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(strings.ToLower(host), ".localhost") {
		addr = net.JoinHostPort("localhost", port)
	}
	return d.DialContext(ctx, network, addr)
}

// call makes one request of the control plane. body goes as JSON unless nil; the answer is decoded into out unless
// nil. It returns the status of a success; anything from 400 is a *failure in the API's own words.
func (a *admin) call(ctx context.Context, method, path string, query url.Values, body, out any) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := a.do(ctx, method, path, query, body, "application/json")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("read the answer of %s: %w", a.base, err)
	}
	if out != nil && len(text) > 0 {
		if err := json.Unmarshal(text, out); err != nil {
			return 0, fmt.Errorf("%s answered %s %s with something that is not its API: %w", a.base, method, path, err)
		}
	}
	return resp.StatusCode, nil
}

// do sends one request and turns refusals into errors; the caller closes the body.
func (a *admin) do(ctx context.Context, method, path string, query url.Values, body any, accept string) (*http.Response, error) {
	resp, err := a.send(ctx, method, path, query, body, accept)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	for _, warning := range resp.Header.Values("X-Tabard-Warning") { // done, but probably not meant so
		a.stdio.note("warning: %s", warning)
	}
	return resp, nil
}

// send sends one request, whatever the answer's status; the caller closes the body.
func (a *admin) send(ctx context.Context, method, path string, query url.Values, body any, accept string) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	address := a.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return nil, err
	}
	req.Host = a.host
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Accept", accept)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, unreachable(err, a.base)
	}
	return resp, nil
}

// unreachable explains why no answer came.
func unreachable(err error, base string) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	cause := err
	var u *url.Error
	if errors.As(err, &u) { // it repeats method and address
		cause = u.Err
	}
	hint := "is it running? `tabard dev` starts one"
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		hint = "name the authority that signed its certificate with --ca"
	}
	return fail(exitUnreachable, hint, "no service answers at %s: %v", base, cause)
}

// refusal reads an error of either API: ARM and Graph wrap it in error, the data plane does not.
func refusal(resp *http.Response) error {
	type apiError struct {
		Code    string
		Message string
		Target  string
		Details []struct{ Message, Target string }
	}
	var envelope struct {
		apiError
		Error apiError
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = json.Unmarshal(text, &envelope) // what is no API error has no message and gets the words below
	e := envelope.Error
	if e.Message == "" {
		e = envelope.apiError
	}
	message := e.Message
	if message == "" {
		message = fmt.Sprintf("the service answered %s", resp.Status)
	}
	for _, d := range e.Details {
		if d.Message != "" && !strings.Contains(message, d.Message) {
			message += "\n  " + strings.TrimSpace(d.Target+" "+d.Message)
		}
	}
	f := &failure{code: exitFailure, message: message}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		f.code, f.hint = exitRefused, "the admin token or access key does not belong to this service, or was replaced"
	case resp.StatusCode == http.StatusNotFound:
		f.code = exitNotFound
	case resp.StatusCode < 500:
		f.code = exitRefused
	}
	return f
}

// hinted adds advice to a failure that has the code and no advice yet.
func hinted(err error, code int, hint string) error {
	var f *failure
	if errors.As(err, &f) && f.code == code && f.hint == "" {
		f.hint = hint
	}
	return err
}

// hintedAs gives a failure other advice.
func hintedAs(err error, hint string) error {
	var f *failure
	if errors.As(err, &f) {
		f.hint = hint
	}
	return err
}
