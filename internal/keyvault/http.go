package keyvault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// apiVersions are the stable versions of the API. All get the same answers: what newer ones add concerns certificates.
var apiVersions = []string{"7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"}

// A call is one request on its way.
type call struct {
	v      *Vaults
	w      http.ResponseWriter
	r      *http.Request
	query  url.Values
	vault  *Vault // the one that the request is for
	key    string // its name in lower case
	name   string // the secret's name as given; empty if the path has none
	secret string // the same in lower case
	id     string // the version, empty for the newest
	caller *Caller
}

// Handler serves the secrets API of every vault under /secrets and /deletedsecrets. resolve tells by a request's Host
// which vault it is for; ok is false for a host that belongs to none. The handler must be reached without a
// multiplexer that cleans paths, and answers over TLS only.
//
// A caller without a usable token is told where to get one, before anything about path or vault; one without
// permission is told so before whether a secret exists.
func (v *Vaults) Handler(resolve func(*http.Request) (vault string, ok bool)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{v: v, w: w, r: r}
		v.identify(w.Header(), r)
		name, known := resolve(r)
		status, body, op, err := c.serve(name, known)
		if err != nil {
			status, body = c.refuse(err, name)
		}
		write(w, status, body)
		c.audit(op, status, err)
	})
}

// identify names the request, as Azure does, and forbids caches.
func (v *Vaults) identify(h http.Header, r *http.Request) {
	h.Set("X-Ms-Request-Id", uuid.NewString())
	if own := r.Header.Get("X-Ms-Client-Request-Id"); own != "" && len(own) <= 128 {
		h.Set("X-Ms-Client-Request-Id", printable(own))
	}
	h.Set("X-Ms-Keyvault-Region", "local")
	h.Set("X-Ms-Keyvault-Network-Info", "conn_type=Ipv4;addr="+remoteHost(r)+";act_addr_fam=InterNetwork;")
	h.Set("Cache-Control", "no-cache, no-store")
	h.Set("Pragma", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
}

func (c *call) serve(name string, known bool) (status int, body any, op *operation, err error) {
	if c.r.TLS == nil {
		return 0, nil, nil, plainHTTP()
	}
	if c.caller, err = c.v.authenticate(c.r, challengeResource(name, c.r.Host)); err != nil {
		return 0, nil, nil, err
	}
	vault, found := c.v.Vault(name)
	if !known || !found {
		return 0, nil, nil, vaultNotFound()
	}
	c.vault, c.key = vault, strings.ToLower(vault.Name)
	if len(c.r.URL.RawQuery)+len(c.r.URL.EscapedPath()) > maxURL {
		return 0, nil, nil, badParameter("The request URI is longer than %d bytes.", maxURL)
	}
	if op, err = c.route(); err != nil {
		return 0, nil, nil, err
	}
	if err := c.checkVersion(); err != nil {
		return 0, nil, op, err
	}
	if err := c.checkName(); err != nil {
		return 0, nil, op, err
	}
	if err := c.v.permit(vault, c.caller, op.permission, c.secret); err != nil {
		return 0, nil, op, err
	}
	status, body, err = op.run(c)
	return status, body, op, err
}

// checkVersion wants one api-version that is known. Query names may come percent-encoded (JS) and in any case.
func (c *call) checkVersion() error {
	var err error
	if c.query, err = url.ParseQuery(c.r.URL.RawQuery); err != nil {
		return badParameter("The query of the request URI is malformed.")
	}
	for name, values := range c.query {
		if lower := strings.ToLower(name); lower != name {
			delete(c.query, name)
			c.query[lower] = append(c.query[lower], values...)
		}
	}
	given := c.query["api-version"]
	switch {
	case len(given) != 1 || given[0] == "":
		return badParameter("The request should contain a valid api-version query parameter, once. Supported are %s.", strings.Join(apiVersions, ", "))
	case !slices.Contains(apiVersions, given[0]):
		return badParameter("The specified version (%.50q) is not recognized. Consider using the latest supported version (%s).", given[0], apiVersions[len(apiVersions)-1])
	}
	return nil
}

func (c *call) checkName() error {
	if c.name == "" {
		return nil
	}
	if !secretName.MatchString(c.name) {
		return badParameter("The request URI contains an invalid name: %.200s", printable(c.name))
	}
	c.secret = strings.ToLower(c.name)
	if c.id == "" {
		return nil
	}
	if !secretVersion.MatchString(c.id) {
		return badParameter("The request URI contains an invalid version: %.200s", printable(c.id))
	}
	c.id = strings.ToLower(c.id)
	return nil
}

// refuse turns an error into an answer.
func (c *call) refuse(err error, vault string) (int, any) {
	e := unavailable(err)
	if e.Status == http.StatusUnauthorized {
		c.w.Header().Set("WWW-Authenticate", c.v.challenge(challengeResource(vault, c.r.Host)))
	}
	if e.Retry > 0 {
		c.w.Header().Set("Retry-After", fmt.Sprint(int(e.Retry.Seconds()+0.999)))
	}
	if e.Err != nil {
		c.v.log.Error("a vault's call failed", "request", c.w.Header().Get("X-Ms-Request-Id"), "error", e.Err)
	}
	type inner struct {
		Code string `json:"code"`
	}
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Inner   *inner `json:"innererror,omitempty"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Message = e.Code, e.Message
	if e.Inner != "" {
		body.Error.Inner = &inner{e.Inner}
	}
	return e.Status, body
}

func write(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil { // every body is made of our own types
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", fmt.Sprint(text.Len()))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text.String()) // a client that has gone is no one's error
}

// readJSON reads the request's body into what into points to. Unknown members are ignored, as Azure does.
func (c *call) readJSON(limit int, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, int64(limit)))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return tooLarge(limit)
	}
	if err != nil {
		return badParameter("The request body ended early.")
	}
	if !utf8.Valid(body) {
		return badParameter("The request body is not UTF-8.")
	}
	if err := json.Unmarshal(body, into); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return badParameter("Property %.100q has invalid value: it is not %s.", wrong.Field, describe(wrong))
		}
		return badParameter("The request body is not a JSON object.") // whose text may hold the value: it is not repeated
	}
	return nil
}

func describe(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind().String() {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "int64":
		return "a whole number"
	}
	return "an object"
}

// audit writes the one line of a call.
func (c *call) audit(op *operation, status int, err error) {
	name := "none"
	if op != nil {
		name = op.name
	}
	c.v.counts.add(name, status, false)
	attrs := []slog.Attr{slog.String("op", name), slog.Int("status", status), slog.String("address", remoteHost(c.r)), slog.String("request", c.w.Header().Get("X-Ms-Request-Id"))}
	if c.vault != nil {
		attrs = append(attrs, slog.String("vault", c.vault.Name))
	}
	if c.secret != "" {
		attrs = append(attrs, slog.String("secret", c.secret), slog.String("version", c.id))
	}
	c.v.log.LogAttrs(c.r.Context(), slog.LevelInfo, "vault call", append(attrs, auditCaller(c.caller, err)...)...)
}

func auditCaller(caller *Caller, err error) []slog.Attr {
	var attrs []slog.Attr
	switch {
	case caller == nil:
	case caller.Admin:
		attrs = append(attrs, slog.Bool("admin", true))
	default:
		attrs = append(attrs, slog.String("oid", caller.ObjectID), slog.String("appid", caller.AppID), slog.String("uti", caller.TokenID))
	}
	if e, ok := errors.AsType[*Error](err); ok {
		attrs = append(attrs, slog.String("code", e.Code), slog.String("inner", e.Inner))
	}
	return attrs
}
