package arm

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"tabard/internal/audit"
)

// The audit log in the shape of Azure's activity log, Microsoft.Insights/eventtypes/management/values.

// activityPage is how many events one answer has at most.
const activityPage = 200

var activityVersions = &versions{namespace: "Microsoft.Insights", since: "2014-04-01", list: []string{"2015-04-01", "2014-04-01"}}

// activityFilter is what a $filter selects.
type activityFilter struct {
	from, to time.Time
	is       []func(*audit.Record) bool
}

// activityFields are the fields that can be compared with eq. Those that are always true are what Azure's own tools send
// and what every event here is.
var activityFields = map[string]func(r *audit.Record, value string) bool{
	"resourceGroupName": func(r *audit.Record, v string) bool { return strings.EqualFold(groupOf(r.Resource), v) },
	"resourceProvider":  func(r *audit.Record, v string) bool { return strings.EqualFold(providerOf(r.Operation), v) },
	"resourceUri":       func(r *audit.Record, v string) bool { return isOrBelow(r.Resource, v) },
	"resourceId":        func(r *audit.Record, v string) bool { return isOrBelow(r.Resource, v) },
	"resourceType":      func(r *audit.Record, v string) bool { return strings.EqualFold(typeOf(r.Operation), v) },
	"operationName":     func(r *audit.Record, v string) bool { return strings.EqualFold(r.Operation, v) },
	"correlationId":     func(r *audit.Record, v string) bool { return strings.EqualFold(r.CorrelationID, v) },
	"caller": func(r *audit.Record, v string) bool {
		return strings.EqualFold(callerName(r), v) || v != "" && strings.EqualFold(r.Caller.AppID, v)
	},
	"status":        func(r *audit.Record, v string) bool { return strings.EqualFold(activityStatus(r), v) },
	"eventChannels": func(*audit.Record, string) bool { return true },
	"category":      func(_ *audit.Record, v string) bool { return strings.EqualFold(v, "Administrative") },
}

// parseActivityFilter reads comparisons joined by and: eventTimestamp ge and le, and the fields above eq. Values may
// stand without quotes, as az writes times.
func parseActivityFilter(text string) (f activityFilter, ok bool) {
	in := &scanner{rest: text}
	ok = in.all(func() bool {
		field, value := in.word(), ""
		if !strings.EqualFold(field, "eventTimestamp") {
			compare := activityField(field)
			if compare == nil || !in.keyword("eq") || !in.value(&value) {
				return false
			}
			f.is = append(f.is, func(r *audit.Record) bool { return compare(r, value) })
			return true
		}
		bound := &f.from
		if !in.keyword("ge") {
			if !in.keyword("le") {
				return false
			}
			bound = &f.to
		}
		if !in.value(&value) {
			return false
		}
		for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02"} {
			if at, err := time.Parse(layout, value); err == nil {
				*bound = at
				return true
			}
		}
		return false
	})
	return f, ok
}

func activityField(name string) func(*audit.Record, string) bool {
	for known, compare := range activityFields {
		if strings.EqualFold(known, name) {
			return compare
		}
	}
	return nil
}

// value reads a literal, in quotes or up to the next space.
func (in *scanner) value(v *string) bool {
	if in.space(); strings.HasPrefix(in.rest, "'") {
		return in.text(v)
	}
	end := strings.IndexByte(in.rest, ' ')
	if end < 0 {
		end = len(in.rest)
	}
	*v, in.rest = in.rest[:end], in.rest[end:]
	return *v != ""
}

func (s *server) listActivity(c *call) (reply, error) {
	f, ok := parseActivityFilter(c.query("$filter"))
	if !ok {
		return reply{}, badFilter("eventTimestamp ge and le '{time}', and resourceGroupName, resourceProvider, resourceType, resourceUri, resourceId, operationName, correlationId, caller and status eq '{value}'")
	}
	answer := map[string]any{"value": []any{}}
	if s.Audit == nil {
		return reply{200, answer}, nil
	}
	found, next, err := s.Audit.Find(c.r.Context(), audit.Query{
		From: f.from, To: f.to, Limit: activityPage, After: c.query("$skiptoken"),
		Match: func(r *audit.Record) bool {
			for _, is := range f.is {
				if !is(r) {
					return false
				}
			}
			return true
		},
	})
	if errors.Is(err, audit.ErrBadToken) {
		return reply{}, refuse(http.StatusBadRequest, "BadRequest", "The $skiptoken is not one that this service gave.")
	}
	if err != nil {
		return reply{}, err
	}
	list := make([]any, len(found))
	for i := range found {
		list[i] = s.event(c, &found[i])
	}
	answer["value"] = list
	if next != "" {
		answer["nextLink"] = c.nextPage(next)
	}
	return reply{200, answer}, nil
}

type localizable struct {
	Value          string `json:"value"`
	LocalizedValue string `json:"localizedValue"`
}

func word(text string) localizable { return localizable{text, text} }

// event is a record as Azure writes it. Values of properties are text there, whatever they are.
func (s *server) event(c *call, r *audit.Record) map[string]any {
	at := r.Time.UTC().Format("2006-01-02T15:04:05.0000000Z")
	operation := r.Operation
	properties := map[string]string{"eventCategory": "Administrative"}
	description := ""
	if r.Unlisted > 0 {
		operation = "Tabard/refusedRequests/action"
		properties["count"] = fmt.Sprint(r.Unlisted)
		description = fmt.Sprintf("%d more requests were refused of which there is no record each", r.Unlisted)
	} else {
		properties["statusCode"], properties["serviceRequestId"], properties["path"] = fmt.Sprint(r.Status), r.RequestID, r.Path
	}
	for name, doc := range map[string][]byte{"before": r.Before, "after": r.After} {
		if doc != nil {
			properties[name] = string(doc)
		}
	}
	if r.Code != "" {
		properties["statusMessage"] = r.Code
	}
	claims := map[string]string{}
	if r.Caller.ObjectID != "" {
		claims["appid"] = r.Caller.AppID
		claims["http://schemas.microsoft.com/identity/claims/objectidentifier"] = r.Caller.ObjectID
		claims["http://schemas.microsoft.com/identity/claims/tenantid"] = r.Caller.TenantID
	}
	subscription := strings.ToLower(c.params["subscription"])
	sub := ""
	if r.Status > 0 {
		sub = fmt.Sprintf("%s (HTTP Status Code: %d)", http.StatusText(r.Status), r.Status)
	}
	return map[string]any{
		"id":            r.Resource + "/events/" + r.ID + "/ticks/" + fmt.Sprint(r.Time.UnixNano()/100),
		"eventDataId":   r.ID,
		"eventName":     localizable{"EndRequest", "End request"},
		"category":      word("Administrative"),
		"level":         activityLevel(r),
		"caller":        callerName(r),
		"claims":        claims,
		"description":   description,
		"authorization": map[string]string{"action": operation, "scope": r.Resource},
		"correlationId": r.CorrelationID, "operationId": r.CorrelationID,
		"operationName":        word(operation),
		"resourceId":           r.Resource,
		"resourceGroupName":    groupOf(r.Resource),
		"resourceProviderName": word(providerOf(operation)),
		"resourceType":         word(typeOf(operation)),
		"status":               word(activityStatus(r)),
		"subStatus":            localizable{strings.ReplaceAll(http.StatusText(r.Status), " ", ""), sub},
		"httpRequest":          map[string]string{"clientRequestId": r.ClientID, "clientIpAddress": r.Address, "method": r.Method, "uri": r.Path},
		"properties":           properties,
		"eventTimestamp":       at, "submissionTimestamp": at,
		"subscriptionId": subscription, "tenantId": s.Directory.TenantID(),
	}
}

func activityStatus(r *audit.Record) string {
	if r.Status >= 200 && r.Status < 300 {
		return "Succeeded"
	}
	return "Failed"
}

func activityLevel(r *audit.Record) string {
	switch {
	case r.Status >= 500:
		return "Error"
	case r.Status >= 400, r.Unlisted > 0:
		return "Warning"
	}
	return "Informational"
}

// callerName is what Azure shows of a caller: for a service principal its object id.
func callerName(r *audit.Record) string {
	switch {
	case r.Caller.Admin:
		return "admin token"
	case r.Caller.ObjectID != "":
		return r.Caller.ObjectID
	}
	return "unknown"
}

func groupOf(id string) string {
	segments := strings.Split(id, "/")
	for i := 0; i+1 < len(segments); i++ {
		if strings.EqualFold(segments[i], "resourceGroups") {
			return segments[i+1]
		}
	}
	return ""
}

func providerOf(operation string) string {
	provider, _, _ := strings.Cut(operation, "/")
	return provider
}

// typeOf is an operation's name without what is done and, if that is an action, without its verb.
func typeOf(operation string) string {
	kind, end, _ := cutLast(operation, "/")
	if end == "action" {
		kind, _, _ = cutLast(kind, "/")
	}
	return kind
}

func isOrBelow(id, root string) bool {
	root = strings.TrimSuffix(root, "/")
	return len(id) >= len(root) && strings.EqualFold(id[:len(root)], root) && (len(id) == len(root) || id[len(root)] == '/')
}
