package tabard

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"tabard/internal/audit"
	"tabard/internal/keyvault"
	"tabard/internal/throttle"
	"tabard/internal/tokenservice"
)

// Wrong credentials on the admin address: how many one address may present at once, and how soon another.
const (
	guessBurst = 50
	guessEvery = time.Second
)

// slowGuessing answers 429 to who has presented too many wrong credentials, until some time has passed. What is right
// passes all the same, so that nobody on this machine can lock its operator out. The vaults' and workloads' routes have
// limits of their own.
func (s *Server) slowGuessing(next http.Handler) http.Handler {
	guesses := throttle.New(guessBurst, guessEvery)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" || tokenservice.IsWorkloadPath(r.URL.Path) || keyvault.InPath(r.URL.EscapedPath()) ||
			strings.HasPrefix(r.URL.EscapedPath(), vaultPath) {
			next.ServeHTTP(w, r)
			return
		}
		address := throttle.Peer(r)
		if wait := guesses.Wait(address, time.Now()); wait > 0 && s.auditCaller(r, s.control) == (audit.Caller{}) {
			w.Header().Set("Retry-After", fmt.Sprint(int(wait/time.Second)+1))
			writeError(w, http.StatusTooManyRequests, "TooManyRequests", "Too many wrong credentials came from this address. Try again later.")
			return
		}
		next.ServeHTTP(&guessWatch{w, func() { guesses.Take(address, time.Now()) }}, r)
	})
}

// A guessWatch hears of an answer 401.
type guessWatch struct {
	http.ResponseWriter
	wrong func()
}

func (g *guessWatch) WriteHeader(status int) {
	if status == http.StatusUnauthorized {
		g.wrong()
	}
	g.ResponseWriter.WriteHeader(status)
}

// Unwrap serves http.ResponseController.
func (g *guessWatch) Unwrap() http.ResponseWriter { return g.ResponseWriter }
