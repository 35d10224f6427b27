package tabard

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"tabard/internal/apply"
	"tabard/internal/store"
)

// An applySet remembers what the applies of one name have created, so that a later one may delete it. What is in it is
// the applier's business.
type applySet struct {
	Resources []apply.Owned `json:"resources"`
}

const (
	maxApplySets = 256
	maxOwned     = 20_000
)

var applySetName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func openApplySets(ctx context.Context, st *store.Store) (*store.Collection[applySet], error) {
	return store.OpenCollection[applySet](ctx, st, "apply-sets", store.Schema{Version: 1})
}

// serveApplySets serves GET and PUT /tabard/v1/applySets/{name}. A PUT names in "etag" what it has seen, nothing for a
// set that is not there yet; another one's is refused with 412.
func (s *Server) serveApplySets(w http.ResponseWriter, r *http.Request) {
	name, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), apply.InventoryPath))
	if err != nil || !applySetName.MatchString(name) {
		writeError(w, http.StatusBadRequest, "BadRequest", "the name of a set is 1 to 64 letters, digits, dots, dashes and underscores, beginning with a letter or digit")
		return
	}
	item, there := s.applySets.Get(name)
	switch r.Method {
	case http.MethodGet:
		if !there {
			writeError(w, http.StatusNotFound, "NotFound", "there is no such set")
			return
		}
	case http.MethodPut:
		var in apply.Inventory
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, store.MaxValue)).Decode(&in); err != nil {
			writeError(w, http.StatusBadRequest, "InvalidRequestContent", "the body is not a set of resources of at most "+strconv.Itoa(store.MaxValue)+" bytes")
			return
		}
		if len(in.Resources) > maxOwned || !there && len(s.applySets.All()) >= maxApplySets {
			writeError(w, http.StatusConflict, "QuotaExceeded", "there are too many sets, or resources in this one")
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), smallDeadline)
		defer cancel()
		revision, _ := strconv.ParseUint(in.ETag, 10, 64)
		if there {
			_, err = s.applySets.Update(ctx, name, applySet{in.Resources}, revision)
		} else {
			_, err = s.applySets.Create(ctx, name, applySet{in.Resources})
		}
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrExists) {
			writeError(w, http.StatusPreconditionFailed, "PreconditionFailed", "another apply has changed the set meanwhile")
			return
		}
		if err != nil {
			s.internalError(w, r, err)
			return
		}
		item, _ = s.applySets.Get(name)
	default:
		w.Header().Set("Allow", "GET, PUT")
		writeError(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "there are GET and PUT")
		return
	}
	writeJSON(w, http.StatusOK, apply.Inventory{Resources: item.Value.Resources, ETag: strconv.FormatUint(item.Revision, 10)})
}
