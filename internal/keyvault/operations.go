package keyvault

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What clients send. Members that they leave out, or send as null, are nil.
type (
	secretBody struct {
		Value       *string           `json:"value"`
		ContentType *string           `json:"contentType"`
		Attributes  *attributesBody   `json:"attributes"`
		Tags        map[string]string `json:"tags"`
	}
	attributesBody struct {
		Enabled   *bool  `json:"enabled"`
		NotBefore *int64 `json:"nbf"`
		Expires   *int64 `json:"exp"`
	}
)

// edit checks all that a body says but its value.
func (b *secretBody) edit() (edit, error) {
	e := edit{contentType: b.ContentType, tags: b.Tags}
	if b.ContentType != nil && utf8.RuneCountInString(*b.ContentType) > maxContentType {
		return e, badParameter("Property \"contentType\" is longer than %d characters.", maxContentType)
	}
	if len(b.Tags) > maxTags {
		return e, badParameter("Property \"tags\" has more than %d entries.", maxTags)
	}
	for key, value := range b.Tags {
		if utf8.RuneCountInString(key) > maxTag || utf8.RuneCountInString(value) > maxTag {
			return e, badParameter("Property \"tags\" has a key or value that is longer than %d characters.", maxTag)
		}
	}
	if a := b.Attributes; a != nil {
		e.enabled, e.notBefore, e.expires = a.Enabled, a.NotBefore, a.Expires
		for _, t := range []*int64{a.NotBefore, a.Expires} {
			if t != nil && (*t < 0 || *t > maxTime) {
				return e, badParameter("Property \"attributes\" has invalid value: a time is not in Unix seconds.")
			}
		}
	}
	return e, nil
}

// maxTime is the end of the year 9999.
const maxTime = 253402300799

func (c *call) set() (int, any, error) {
	var b secretBody
	if err := c.readJSON(maxBody, &b); err != nil {
		return 0, nil, err
	}
	if b.Value == nil {
		return 0, nil, badParameter("Property \"value\" is required.")
	}
	if len(*b.Value) > MaxValue {
		return 0, nil, badParameter("Property \"value\" is longer than %d bytes.", MaxValue)
	}
	e, err := b.edit()
	if err != nil {
		return 0, nil, err
	}
	s, err := c.v.set(c.r.Context(), c.key, c.name, []byte(*b.Value), e)
	if err != nil {
		return 0, nil, err
	}
	c.id = s.ID
	body := c.bundle(s)
	body.Value = b.Value
	return http.StatusOK, body, nil
}

func (c *call) get() (int, any, error) {
	s, w, err := c.v.get(c.key, c.secret, c.id)
	if err != nil {
		return 0, nil, err
	}
	if s.Disabled {
		return 0, nil, secretDisabled()
	}
	value, err := c.v.open(&w, c.key, c.secret, s)
	if err != nil {
		return 0, nil, err
	}
	c.id = s.ID
	body := c.bundle(s)
	text := string(value)
	body.Value = &text
	return http.StatusOK, body, nil
}

func (c *call) update() (int, any, error) {
	var b secretBody
	if err := c.readJSON(maxBody, &b); err != nil {
		return 0, nil, err
	}
	e, err := b.edit()
	if err != nil {
		return 0, nil, err
	}
	s, err := c.v.update(c.r.Context(), c.key, c.secret, c.id, e)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c.bundle(s), nil
}

func (c *call) delete() (int, any, error) {
	s, m, err := c.v.delete(c.r.Context(), c.key, c.secret)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c.deletedBundle(s, m), nil
}

func (c *call) getDeleted() (int, any, error) {
	s, w, err := c.v.getDeleted(c.key, c.secret)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c.deletedBundle(s, w.mark), nil
}

func (c *call) recover() (int, any, error) {
	s, err := c.v.recover(c.r.Context(), c.key, c.secret)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c.bundle(s), nil
}

func (c *call) purge() (int, any, error) {
	return http.StatusNoContent, nil, c.v.purge(c.r.Context(), c.key, c.secret)
}

func (c *call) backup() (int, any, error) {
	blob, err := c.v.backup(c.key, c.secret)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]string{"value": blob}, nil
}

func (c *call) restore() (int, any, error) {
	var b struct {
		Value *string `json:"value"`
	}
	if err := c.readJSON(maxRestore, &b); err != nil {
		return 0, nil, err
	}
	if b.Value == nil {
		return 0, nil, badParameter("Property \"value\" is required.")
	}
	s, err := c.v.restore(c.r.Context(), c.key, *b.Value)
	if err != nil {
		return 0, nil, err
	}
	c.secret, c.id = strings.ToLower(s.Name), s.ID
	return http.StatusOK, c.bundle(s), nil
}

func (c *call) list() (int, any, error) {
	return c.page(func(after string, limit int) ([]any, string) {
		found, more := c.v.index.page(c.key, after, limit, func(m *mark) bool { return m == nil })
		items, last := make([]any, len(found)), ""
		for i, n := range found {
			items[i], last = c.item(n.newest), strings.ToLower(n.newest.Name)
		}
		return items, lastIf(more, last)
	})
}

func (c *call) listDeleted() (int, any, error) {
	return c.page(func(after string, limit int) ([]any, string) {
		found, more := c.v.index.page(c.key, after, limit, c.v.deleted)
		items, last := make([]any, len(found)), ""
		for i, n := range found {
			items[i], last = c.deletedItem(n.newest, n.mark), strings.ToLower(n.newest.Name)
		}
		return items, lastIf(more, last)
	})
}

func (c *call) listVersions() (int, any, error) {
	_, w, err := c.v.get(c.key, c.secret, "")
	if err != nil {
		return 0, nil, err
	}
	return c.page(func(after string, limit int) ([]any, string) {
		items, last := []any{}, ""
		for _, s := range w.versions { // oldest first
			at := sortable(s)
			if at <= after {
				continue
			}
			if len(items) == limit {
				return items, last
			}
			items, last = append(items, c.versionItem(s)), at
		}
		return items, ""
	})
}

// sortable is the place of a version in its secret as text.
func sortable(s *stored) string {
	n := strconv.FormatUint(s.Sequence, 16)
	return strings.Repeat("0", 16-len(n)) + n + "-" + s.ID
}

func lastIf(more bool, last string) string {
	if more {
		return last
	}
	return ""
}

// page answers with a part of a list. A token to skip with says only after which item to go on; it is of no use to see
// what its holder may not see, since every page is asked for like the first one.
func (c *call) page(list func(after string, limit int) (items []any, last string)) (int, any, error) {
	limit := maxPage
	if given, ok := c.query["maxresults"]; ok {
		n, err := strconv.Atoi(given[0])
		if err != nil || len(given) > 1 || n < 1 || n > maxPage {
			return 0, nil, badParameter("The request URI contains an invalid value for the query parameter maxresults: it is not between 1 and %d.", maxPage)
		}
		limit = n
	}
	after := ""
	if given, ok := c.query["$skiptoken"]; ok {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(given[0])
		if err != nil || len(given) > 1 || !secretName.Match(raw) {
			return 0, nil, badParameter("The request URI contains an invalid $skiptoken.")
		}
		after = string(raw)
	}
	items, last := list(after, limit)
	body := struct {
		Value []any   `json:"value"`
		Next  *string `json:"nextLink"`
	}{Value: items}
	if last != "" {
		path := strings.Trim(c.r.URL.EscapedPath(), "/")
		next := withPort(c.v.opt.Origin(c.vault.Name)) + "/" + path + "?" + url.Values{"api-version": c.query["api-version"]}.Encode() +
			"&$skiptoken=" + base64.RawURLEncoding.EncodeToString([]byte(last)) + "&maxresults=" + strconv.Itoa(limit)
		body.Next = &next
	}
	return http.StatusOK, body, nil
}

// withPort names the port even if it is the usual one, as Azure does in links.
func withPort(origin string) string {
	if u, err := url.Parse(origin); err == nil && u.Port() == "" {
		return origin + ":443"
	}
	return origin
}
