package throttle

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestABurstIsFreeAndThenOneIsLetThroughPerInterval(t *testing.T) {
	l, now := New(3, time.Second), time.Now()
	for i := range 3 {
		if wait := l.Allow("a", now); wait != 0 {
			t.Errorf("unit %d waits %v", i, wait)
		}
	}
	if wait := l.Allow("a", now); wait != time.Second {
		t.Errorf("the fourth waits %v, want 1s", wait)
	}
	if wait := l.Wait("b", now); wait != 0 {
		t.Errorf("another key waits %v", wait)
	}
	if wait := l.Allow("a", now.Add(time.Second)); wait != 0 {
		t.Errorf("a second later it waits %v", wait)
	}
	if wait := l.Allow("a", now.Add(time.Second)); wait == 0 {
		t.Error("two are let through")
	}
	l.Forgive("a")
	if wait := l.Allow("a", now.Add(time.Second)); wait != 0 {
		t.Errorf("forgiven, it waits %v", wait)
	}
}

func TestTheLimiterIsBounded(t *testing.T) {
	l, now := New(1, time.Minute), time.Now()
	for i := range 2 * MaxKeys {
		if l.Take(fmt.Sprint(i), now.Add(time.Duration(i))); len(l.spent) > MaxKeys {
			t.Fatalf("%d keys are remembered", len(l.spent))
		}
	}
	if len(l.spent) < MaxKeys/2 || l.Wait(fmt.Sprint(2*MaxKeys-1), now) == 0 {
		t.Errorf("%d keys are remembered", len(l.spent))
	}
	for i := range MaxKeys {
		l.Take(fmt.Sprint("late ", i), now.Add(time.Hour))
	}
	if len(l.spent) != MaxKeys {
		t.Errorf("%d keys are remembered after they owe nothing", len(l.spent))
	}
	for address, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1", "[::ffff:192.0.2.1]:5": "192.0.2.1", "[2001:db8:1:2:3:4:5:6]:7": "2001:db8:1:2::/64", "[::1]:5": "::1", "[fe80::1%eth0]:5": "fe80::/64", "pipe": "pipe",
	} {
		if got := Peer(&http.Request{RemoteAddr: address}); got != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
	}
}
