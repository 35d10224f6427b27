package arm

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"tabard/internal/settings"
)

// Long-running operations (control-plane.md 2.7). Everything here is finished when it is answered, so an operation is a
// record of how it ended: of a failure that the answer itself has no place for, or of what a client that prefers not to
// wait (Prefer: respond-async, RFC 7240) will ask for later.

// maxOperations bounds the records; the oldest make room. They do not outlive the process.
const maxOperations = 1024

type operations struct {
	mu    sync.Mutex // guards all
	byID  map[string]*finishedOperation
	order []string
}

type finishedOperation struct {
	id, resource string // of the instance
	start, end   time.Time
	result       reply     // the answer
	failure      *armError // nil: it succeeded
}

// async lets a client that prefers it be answered with 202 at once, and ask for the answer afterwards.
func (s *server) async(serve handler) handler {
	return func(c *call) (reply, error) {
		rep, err := serve(c)
		if err != nil || rep.status == http.StatusNoContent && c.r.Method == http.MethodDelete || !c.prefersAsync() {
			return rep, err
		}
		s.finished(c, rep, nil)
		c.w.Header().Del("ETag") // of the answer that is not this one
		c.w.Header().Set("Preference-Applied", "respond-async")
		return reply{status: http.StatusAccepted, body: rep.body}, nil
	}
}

func (c *call) prefersAsync() bool {
	for _, line := range c.r.Header.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			if name, _, _ := strings.Cut(preference, ";"); strings.EqualFold(strings.TrimSpace(name), "respond-async") {
				return true
			}
		}
	}
	return false
}

// finished records how an operation on the path's instance ended and names it in the headers by which clients find it.
func (s *server) finished(c *call, result reply, failure *armError) {
	resource := (&settings.Instance{Name: c.params["name"], SubscriptionID: c.params["subscription"], ResourceGroup: c.params["group"]}).ResourceID()
	op := &finishedOperation{id: uuid.NewString(), resource: resource, start: c.start, end: time.Now().UTC(), result: result, failure: failure}
	s.operations.add(op)
	base, version := c.origin()+(&url.URL{Path: op.resource}).EscapedPath(), "?api-version="+c.query("api-version")
	c.w.Header().Set("Azure-AsyncOperation", base+"/operationStatuses/"+op.id+version)
	c.w.Header().Set("Location", base+"/operationResults/"+op.id+version)
}

func (o *operations) add(op *finishedOperation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byID == nil {
		o.byID = map[string]*finishedOperation{}
	}
	if len(o.order) == maxOperations {
		delete(o.byID, o.order[0])
		o.order = o.order[1:]
	}
	o.byID[op.id] = op
	o.order = append(o.order, op.id)
}

// findOperation finds the path's operation: below its instance, or in its subscription.
func (s *server) findOperation(c *call) (*finishedOperation, error) {
	s.operations.mu.Lock()
	op, ok := s.operations.byID[strings.ToLower(c.params["operation"])]
	s.operations.mu.Unlock()
	scope := "/subscriptions/" + c.params["subscription"] + "/"
	if name, below := c.params["name"]; below {
		scope += "resourceGroups/" + c.params["group"] + "/providers/" + instanceType + "/" + name + "/"
	}
	if !ok || len(op.resource) < len(scope)-1 || !strings.EqualFold((op.resource + "/")[:len(scope)], scope) {
		return nil, refuse(http.StatusNotFound, "OperationNotFound", "The operation '%s' was not found.", c.params["operation"])
	}
	return op, nil
}

func (s *server) getOperationStatus(c *call) (reply, error) {
	op, err := s.findOperation(c)
	if err != nil {
		return reply{}, err
	}
	body := map[string]any{
		"id": c.r.URL.Path, "name": op.id, "status": "Succeeded", "percentComplete": 100.0,
		"startTime": op.start.Format(time.RFC3339Nano), "endTime": op.end.Format(time.RFC3339Nano),
	}
	if op.failure != nil {
		body["status"], body["error"] = "Failed", op.failure
	}
	return reply{http.StatusOK, body}, nil
}

// getOperationResult answers what the operation itself would have answered had it been waited for.
func (s *server) getOperationResult(c *call) (reply, error) {
	op, err := s.findOperation(c)
	if err != nil {
		return reply{}, err
	}
	if op.failure != nil {
		return reply{}, op.failure
	}
	return reply{http.StatusOK, op.result.body}, nil
}
