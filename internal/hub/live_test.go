package hub

import (
	"fmt"
	"testing"
)

func TestOperatorsSeeWhoIsConnected(t *testing.T) {
	r := newRegistry(t, Options{})
	h := r.Hub("In", "Chat")
	r.Hub("in", "alerts")
	r.Hub("other", "chat")
	for i, o := range []ConnOptions{
		{ID: "a", UserID: "u", Groups: []string{"g", "h"}},
		{ID: "b", UserID: "v", Groups: []string{"g"}},
		{ID: "c", UserID: "u"},
		{ID: "d"},
	} {
		connect(t, h, o)
		if h.Len() != i+1 {
			t.Errorf("%d connections after %d", h.Len(), i+1)
		}
	}
	var hubs []string
	for _, h := range r.Hubs("IN") {
		hubs = append(hubs, h.Name())
	}
	if got := fmt.Sprint(hubs, h.Groups(), h.Users()); got != "[alerts chat] [{g 2} {h 1}] [{u 2} {v 1}]" {
		t.Errorf("got %s", got)
	}
	for _, tc := range []struct {
		group, user, after string
		limit              int
		want               string
	}{
		{"", "", "", 10, "abcd false"},
		{"", "", "", 2, "ab true"},
		{"", "", "b", 2, "cd false"},
		{"g", "", "", 10, "ab false"},
		{"g", "u", "", 10, "a false"},
		{"", "u", "", 10, "ac false"},
		{"", "u", "a", 1, "c false"},
		{"none", "", "", 10, " false"},
	} {
		list, more := h.Connections(tc.group, tc.user, tc.after, tc.limit)
		ids := ""
		for _, c := range list {
			ids += c.ID()
		}
		if got := fmt.Sprint(ids, " ", more); got != tc.want {
			t.Errorf("%+v lists %q", tc, got)
		}
	}
	var none *Hub
	if list, more := none.Connections("", "", "", 1); none.Len() != 0 || none.Users() != nil || none.Groups() != nil || list != nil || more {
		t.Error("a hub that was never used is not empty")
	}
}
