package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	alice = Principal{TenantID: "t", PrincipalID: "alice", ClientID: "a", ResourceID: "/instances/1", System: true}
	bob   = Principal{TenantID: "t", PrincipalID: "bob", ClientID: "b", ResourceID: "/identities/bob", HostResourceID: "/instances/1"}
)

// An issuer answers with numbered tokens; every field may be changed between calls of the cache.
type issuer struct {
	life   time.Duration
	advice time.Duration // RefreshOn, after issue; 0 none
	delay  time.Duration
	fail   atomic.Pointer[error]
	calls  atomic.Int64
}

func (s *issuer) Token(ctx context.Context, p Principal, resource string) (*Token, error) {
	n := s.calls.Add(1)
	if s.delay > 0 {
		select {
		case <-time.After(s.delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := s.fail.Load(); err != nil {
		return nil, *err
	}
	now := time.Now()
	var refresh time.Time
	if s.advice > 0 {
		refresh = now.Add(s.advice)
	}
	return NewToken(fmt.Sprint(p.PrincipalID, " ", resource, " ", n), now, now.Add(s.life), refresh), nil
}

func (s *issuer) failWith(err error) {
	if err == nil {
		s.fail.Store(nil)
		return
	}
	s.fail.Store(&err)
}

func open(t *testing.T, s Source, opt Options) *Cache {
	c := NewCache(s, opt)
	t.Cleanup(c.Close)
	return c
}

func get(t *testing.T, c *Cache, p Principal, resource string) string {
	t.Helper()
	tok, err := c.Token(t.Context(), p, resource)
	if err != nil {
		t.Fatalf("token of %s for %s: %v", p.PrincipalID, resource, err)
	}
	if got, want := tok.Authorization[0], "Bearer "+tok.Raw; got != want {
		t.Fatalf("authorization %q, want %q", got, want)
	}
	return tok.Raw
}

func wantToken(t *testing.T, c *Cache, want string) {
	t.Helper()
	if got := get(t, c, alice, "api://x"); got != "alice api://x "+want {
		t.Fatalf("after %v: got token %q, want number %s", time.Since(epoch), got, want)
	}
}

// epoch is when every synctest bubble begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestATokenIsFetchedOncePerPrincipalAndResource(t *testing.T) {
	s := &issuer{life: time.Hour}
	c := open(t, s, Options{})
	other := bob
	other.HostResourceID = "/instances/2" // the same identity on another instance has another xms_az_rid
	for range 3 {
		for want, got := range map[string]string{
			"alice api://x 1": get(t, c, alice, "api://x"),
			"alice api://y 2": get(t, c, alice, "api://y"),
			"bob api://x 3":   get(t, c, bob, "api://x"),
			"bob api://x 4":   get(t, c, other, "api://x"),
		} {
			if len(want) != len(got) || want[:3] != got[:3] {
				t.Fatalf("got %q, want the shape of %q", got, want)
			}
		}
	}
	if n := s.calls.Load(); n != 4 {
		t.Fatalf("source was asked %d times, want 4", n)
	}
}

func TestAResourceIsTakenByteForByte(t *testing.T) {
	s := &issuer{life: time.Hour}
	c := open(t, s, Options{})
	get(t, c, alice, "api://x")
	get(t, c, alice, "api://x/")
	get(t, c, alice, "API://x")
	get(t, c, alice, "")
	if n := s.calls.Load(); n != 4 {
		t.Fatalf("source was asked %d times, want 4", n)
	}
}

func TestManyCallersShareOneFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour, delay: time.Second}
		c := open(t, s, Options{})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { wantToken(t, c, "1") })
		}
		wg.Wait()
		if took := time.Since(epoch); took != time.Second || s.calls.Load() != 1 {
			t.Fatalf("%d fetches in %v, want 1 in 1s", s.calls.Load(), took)
		}
	})
}

func TestACallerWhoGivesUpDoesNotEndTheFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour, delay: 3 * time.Second}
		c := open(t, s, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Token(ctx, alice, "api://x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the deadline", err)
		}
		if took := time.Since(epoch); took != time.Second {
			t.Fatalf("waited %v beyond its deadline of 1s", took)
		}
		wantToken(t, c, "1")
		if n := s.calls.Load(); n != 1 {
			t.Fatalf("source was asked %d times, want 1", n)
		}
	})
}

func TestACallerWhoGivesUpLearnsWhatTheLatestTryFailedWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		down := errors.New("connection refused")
		s.failWith(down)
		c := open(t, s, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Token(ctx, alice, "api://x")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, down) {
			t.Fatalf("got %v, want the deadline and the cause", err)
		}
	})
}

func TestWhenATokenIsRenewed(t *testing.T) {
	for _, row := range []struct {
		name         string
		life, advice time.Duration
		renewed      time.Duration // first age at which a call renews it in the background
	}{
		{"the issuer's advice is followed", 24 * time.Hour, 7 * time.Hour, 7 * time.Hour},
		{"a life over two hours: at half of it", 24 * time.Hour, 0, 12 * time.Hour},
		{"a life of exactly two hours: 5 minutes before its end", 2 * time.Hour, 0, 115 * time.Minute},
		{"an hour: 5 minutes before its end", time.Hour, 0, 55 * time.Minute},
		{"a life too short for that: at half of it", 6 * time.Minute, 0, 3 * time.Minute},
		{"advice that has passed already: after a pause, not on every call", time.Hour, time.Nanosecond, 5 * time.Second},
		{"advice beyond the end: a minute before the end, by a fetch that is waited for", time.Hour, 2 * time.Hour, 59 * time.Minute},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &issuer{life: row.life, advice: row.advice}
				c := open(t, s, Options{})
				wantToken(t, c, "1")
				time.Sleep(row.renewed - time.Millisecond)
				wantToken(t, c, "1")
				synctest.Wait()
				if n := s.calls.Load(); n != 1 {
					t.Fatalf("renewed before its time: %d fetches", n)
				}
				time.Sleep(time.Millisecond)
				get(t, c, alice, "api://x")
				synctest.Wait()
				if n := s.calls.Load(); n != 2 {
					t.Fatalf("%d fetches at %v, want 2", n, time.Since(epoch))
				}
				wantToken(t, c, "2")
			})
		})
	}
}

func TestNobodyWaitsForARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		c := open(t, s, Options{})
		wantToken(t, c, "1")
		s.delay = 10 * time.Second
		time.Sleep(56 * time.Minute)
		began := time.Now()
		for range 5 {
			wantToken(t, c, "1")
		}
		if waited := time.Since(began); waited != 0 {
			t.Fatalf("callers waited %v", waited)
		}
		time.Sleep(11 * time.Second)
		wantToken(t, c, "2")
		if n := s.calls.Load(); n != 2 {
			t.Fatalf("%d fetches, want 2", n)
		}
	})
}

func TestARenewalThatFailsIsTriedAgainAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		c := open(t, s, Options{})
		wantToken(t, c, "1")
		s.failWith(errors.New("down"))
		time.Sleep(55 * time.Minute)
		wantToken(t, c, "1")
		time.Sleep(3500 * time.Millisecond) // four tries, then the pause of 5 s begins
		for range 49 {
			time.Sleep(100 * time.Millisecond)
			wantToken(t, c, "1")
		}
		synctest.Wait()
		if n := s.calls.Load(); n != 5 {
			t.Fatalf("%d fetches within the pause, want the first and four tries", n)
		}
		s.failWith(nil)
		time.Sleep(100 * time.Millisecond)
		wantToken(t, c, "1")
		synctest.Wait()
		wantToken(t, c, "6")
	})
}

func TestWhileARenewalIsUnderWayACallTakesNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		c := open(t, s, Options{})
		wantToken(t, c, "1")
		s.delay = time.Second
		time.Sleep(55 * time.Minute)
		wantToken(t, c, "1")
		h := c.entries.Load().find(&alice, "api://x").held.Load()
		if next := h.next.Load(); next != h.usableUntil {
			t.Fatalf("calls look closer again from %v, want %v", time.Unix(0, next), time.Unix(0, h.usableUntil))
		}
	})
}

func TestTheOldTokenIsUsedUntilAMinuteBeforeItsEndWhileTheIssuerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: 3 * time.Hour}
		c := open(t, s, Options{})
		wantToken(t, c, "1")
		s.failWith(errors.New("down"))
		for time.Since(epoch) < 3*time.Hour-70*time.Second {
			wantToken(t, c, "1")
			time.Sleep(10 * time.Second)
		}
		time.Sleep(10*time.Second - 1)
		wantToken(t, c, "1")
		time.Sleep(time.Nanosecond)
		if _, err := c.Token(t.Context(), alice, "api://x"); err == nil {
			t.Fatal("a token was handed out within its last minute")
		}
		s.failWith(nil)
		time.Sleep(5 * time.Second)
		n := s.calls.Load()
		wantToken(t, c, strconv.FormatInt(n+1, 10))
	})
}

func TestAFailureIsTriedAgainThenRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		down := errors.New("down")
		s.failWith(down)
		c := open(t, s, Options{})
		fails := func(calls int64, at time.Duration) {
			t.Helper()
			if _, err := c.Token(t.Context(), alice, "api://x"); !errors.Is(err, down) {
				t.Fatalf("got %v, want %v", err, down)
			}
			if n, now := s.calls.Load(), time.Since(epoch); n != calls || now != at {
				t.Fatalf("%d fetches at %v, want %d at %v", n, now, calls, at)
			}
		}
		fails(4, 3500*time.Millisecond) // at once, and after 0.5, 1 and 2 s
		fails(4, 3500*time.Millisecond)
		time.Sleep(5*time.Second - 1)
		fails(4, 8500*time.Millisecond-1)
		time.Sleep(time.Nanosecond)
		fails(8, 12*time.Second)
		time.Sleep(5 * time.Second)
		s.failWith(nil)
		wantToken(t, c, "9")
	})
}

func TestAPassingFaultIsNotSeenByTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		s.failWith(errors.New("down"))
		c := open(t, s, Options{})
		time.AfterFunc(time.Second, func() { s.failWith(nil) })
		wantToken(t, c, "3")
		if took := time.Since(epoch); took != 1500*time.Millisecond {
			t.Fatalf("took %v, want 1.5s", took)
		}
	})
}

func TestARefusalThatWillNotChangeIsNotTriedAgainForFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		s.failWith(fmt.Errorf("embedded: %w", &Error{Code: "AADSTS500011", Description: "AADSTS500011: no such resource", Permanent: true}))
		c := open(t, s, Options{})
		for range 3 {
			_, err := c.Token(t.Context(), alice, "api://x")
			var refused *Error
			if !errors.As(err, &refused) || refused.Code != "AADSTS500011" {
				t.Fatalf("got %v, want the refusal", err)
			}
		}
		if n, now := s.calls.Load(), time.Since(epoch); n != 1 || now != 0 {
			t.Fatalf("%d fetches in %v, want 1 at once", n, now)
		}
		time.Sleep(5 * time.Second)
		s.failWith(nil)
		wantToken(t, c, "2")
	})
}

func TestAHangingSourceIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{delay: time.Hour}
		c := open(t, s, Options{AttemptTimeout: 10 * time.Second})
		_, err := c.Token(t.Context(), alice, "api://x")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(epoch); took != 43500*time.Millisecond {
			t.Fatalf("took %v, want four tries of 10s and their pauses", took)
		}
	})
}

func TestASourceThatAnswersWithNothingUsableHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, s := range map[string]sourceFunc{
			"nothing":          func(context.Context, Principal, string) (*Token, error) { return nil, nil },
			"an expired token": (&issuer{life: 0}).Token,
		} {
			c := NewCache(s, Options{})
			if tok, err := c.Token(t.Context(), alice, "api://x"); err == nil {
				t.Errorf("%s: got %v", name, tok)
			}
			c.Close()
		}
	})
}

func TestATokenInItsLastMinuteIsGivenToThoseWhoWaitedAndNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: 30 * time.Second}
		c := open(t, s, Options{})
		wantToken(t, c, "1")
		wantToken(t, c, "2")
	})
}

func TestFlushForgetsTokensAndFailuresOfOnePrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		c := open(t, s, Options{})
		wantToken(t, c, "1")
		get(t, c, bob, "api://x")
		c.Flush("alice")
		wantToken(t, c, "3")
		if got := get(t, c, bob, "api://x"); got != "bob api://x 2" {
			t.Fatalf("bob's token was flushed too: %q", got)
		}
		s.failWith(&Error{Code: "AADSTS500011", Permanent: true})
		if _, err := c.Token(t.Context(), alice, "api://new"); err == nil {
			t.Fatal("no error")
		}
		s.failWith(nil)
		c.Flush("alice")
		get(t, c, alice, "api://new") // at once, not after 5 s
		c.FlushAll()
		if got := get(t, c, bob, "api://x"); got != "bob api://x 6" {
			t.Fatalf("flushing everything kept %q", got)
		}
	})
}

func TestATokenFetchedBeforeAFlushIsNotStoredAfterIt(t *testing.T) {
	for _, row := range []struct {
		name  string
		begin func(*testing.T, *Cache, *issuer)
	}{
		{"first fetch", func(*testing.T, *Cache, *issuer) {}},
		{"renewal in the background", func(t *testing.T, c *Cache, s *issuer) {
			delay := s.delay
			s.delay = 0
			get(t, c, alice, "api://x")
			s.delay = delay
			time.Sleep(56 * time.Minute)
			get(t, c, alice, "api://x")
			synctest.Wait()
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &issuer{life: time.Hour, delay: 10 * time.Second}
				c := open(t, s, Options{})
				row.begin(t, c, s)
				var waiting sync.WaitGroup
				waiting.Go(func() { get(t, c, alice, "api://x") }) // an event in flight keeps the old token
				synctest.Wait()
				before := s.calls.Load()
				c.Flush("alice")
				time.Sleep(11 * time.Second) // the flight from before the flush has landed
				waiting.Wait()
				wantToken(t, c, strconv.FormatInt(before+1, 10))
			})
		})
	}
}

func TestARefusedTokenIsDroppedOnlyIfItIsOldAndStillTheOneInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		c := open(t, s, Options{})
		first, err := c.Token(t.Context(), alice, "api://x")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		c.Reject(alice, "api://x", first, "")
		wantToken(t, c, "1") // exactly 5 minutes old: not older
		time.Sleep(time.Second)
		c.Reject(alice, "api://other", first, "") // nothing known of it
		c.Reject(bob, "api://x", first, "")
		wantToken(t, c, "1")
		c.Reject(alice, "api://x", first, "")
		wantToken(t, c, "2")
		time.Sleep(6 * time.Minute)
		c.Reject(alice, "api://x", first, "") // a late answer about a token that has been replaced
		wantToken(t, c, "2")
	})
}

// A challenger remembers what claims it was asked for.
type challenger struct {
	issuer
	claims []string
}

func (s *challenger) TokenFor(ctx context.Context, p Principal, resource, claims string) (*Token, error) {
	s.claims = append(s.claims, claims)
	return s.Token(ctx, p, resource)
}

func TestA54AChallengedTokenIsFetchedAgainWithTheClaimsAndNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &challenger{issuer: issuer{life: time.Hour}}
		c := open(t, s, Options{})
		reject := func(claims string) {
			tok, err := c.Token(t.Context(), alice, "api://x")
			if err != nil {
				t.Fatal(err)
			}
			c.Reject(alice, "api://x", tok, claims)
		}
		const one, other = `{"access_token":{"nbf":{"value":"1"}}}`, `{"access_token":{"nbf":{"value":"2"}}}`
		reject(one)
		wantToken(t, c, "2") // young as the first was
		reject(one)
		reject(other)
		wantToken(t, c, "2") // fetched for a challenge; another one so soon changes nothing
		time.Sleep(6 * time.Minute)
		reject(other)
		wantToken(t, c, "3")
		c.Flush(alice.PrincipalID)
		wantToken(t, c, "4")
		if want := []string{one, other}; !slices.Equal(s.claims, want) {
			t.Errorf("asked for %q, want %q and nothing after the flush", s.claims, want)
		}
	})
}

func TestEntriesAreBoundedAndTheSoonestEndMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		c := open(t, s, Options{MaxEntries: 10})
		for i := range 100 {
			get(t, c, alice, fmt.Sprint("api://", i))
			time.Sleep(time.Second)
		}
		if n := c.entries.Load().size; n != 10 {
			t.Fatalf("%d entries, want 10", n)
		}
		before := s.calls.Load()
		for i := 90; i < 100; i++ {
			get(t, c, alice, fmt.Sprint("api://", i))
		}
		if n := s.calls.Load(); n != before {
			t.Fatalf("the newest entries made room for old ones: %d fetches", n-before)
		}
	})
}

func TestCloseEndsFlightsAndWaitsForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour, delay: time.Minute}
		c := NewCache(s, Options{})
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Token(t.Context(), alice, "api://x"); !errors.Is(err, ErrClosed) {
				t.Errorf("a waiting caller got %v, want ErrClosed", err)
			}
		})
		synctest.Wait()
		c.Close()
		c.Close()
		wg.Wait()
		if _, err := c.Token(t.Context(), alice, "api://y"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v, want ErrClosed", err)
		}
		if took := time.Since(epoch); took != 0 {
			t.Errorf("Close waited %v", took)
		}
	})
}

func TestTheCachedPathDoesNotAllocate(t *testing.T) {
	c := open(t, &issuer{life: time.Hour}, Options{})
	get(t, c, userAssigned, "api://x")
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() { _, _ = c.Token(ctx, userAssigned, "api://x") }); n != 0 {
		t.Fatalf("%v allocations per call", n)
	}
}

func TestEverythingAtOnce(t *testing.T) {
	s := &issuer{life: time.Hour}
	c := open(t, s, Options{MaxEntries: 4})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				p := alice
				if i%2 == 0 {
					p = bob
				}
				resource := fmt.Sprint("api://", (g+i)%6)
				tok, err := c.Token(t.Context(), p, resource)
				if err != nil {
					t.Error(err)
					return
				}
				if i%50 == 0 {
					c.Flush(p.PrincipalID)
				}
				c.Reject(p, resource, tok, "")
			}
		})
	}
	wg.Wait()
}
