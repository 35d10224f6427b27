package clientws

import (
	"net/http"
	"strings"
	"testing"

	"tabard/internal/trace"
)

func (r *rig) records(f trace.Filter) []trace.Record {
	f.Instance = "default"
	return r.trace.Records(f)
}

func TestAConnectionLeavesTheRecordsOfItsLife(t *testing.T) {
	r := newRig(t, rigOptions{})
	parent := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	c := r.json(dial{roles: []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}, user: "ann", header: http.Header{"Traceparent": {parent}}})
	c.send(`{"type":"joinGroup","group":"g","ackId":1}`)
	c.want(1, ackOK(1))
	other := r.json(dial{groups: []string{"g"}})
	c.send(`{"type":"sendToGroup","group":"g","dataType":"text","data":"hello","ackId":2}`)
	other.text()
	c.frame(true, 8, "\x03\xe8")
	eventually(t, "the end's record", func() bool {
		return len(r.records(trace.Filter{Connection: c.id, Kind: trace.Connection})) == 2
	})
	recs := r.records(trace.Filter{Connection: c.id, Category: trace.ConnectivityLogs})
	began, ended := recs[0], recs[1]
	if began.Operation != trace.ConnectionStarted || began.User != "ann" || began.Hub != "chat" || began.CallerIP != "127.0.0.1" || began.Subprotocol != jsonProtocol ||
		began.Status != 101 || began.TraceID != parent[3:35] || !strings.HasPrefix(began.URL, "/client/hubs/chat") || strings.Contains(began.URL, "?") {
		t.Errorf("the beginning: %+v", began)
	}
	if ended.Operation != trace.ConnectionEnded || ended.User != "ann" || ended.Duration <= 0 || ended.Detail != "Closed by the client" || ended.CallerIP != "127.0.0.1" {
		t.Errorf("the end: %+v", ended)
	}
	messages := r.records(trace.Filter{Category: trace.MessagingLogs})
	if len(messages) != 1 {
		t.Fatalf("%d records of one publication", len(messages))
	}
	if m := messages[0]; m.Operation != "SendToGroup" || m.Connection != c.id || m.User != "ann" || m.Group != "g" || m.DataType != "text" || m.Bytes != 5 || m.Receivers != 2 {
		t.Errorf("the message: %+v", m)
	}
}

func TestAnAbortedConnectionSaysWhy(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := r.json(dial{})
	c.send(`{"type":`)
	eventually(t, "the end's record", func() bool {
		return len(r.records(trace.Filter{Connection: c.id, Kind: trace.Connection})) == 2
	})
	ended := r.records(trace.Filter{Connection: c.id, Kind: trace.Connection})[1]
	if ended.Operation != trace.ConnectionAborted || ended.Detail != reasonBadRequest || ended.Level() != trace.Warning {
		t.Errorf("the end: %+v", ended)
	}
	lost := r.json(dial{})
	lost.net.Close()
	eventually(t, "the end's record", func() bool {
		recs := r.records(trace.Filter{Connection: lost.id, Kind: trace.Connection})
		return len(recs) == 2 && recs[1].Operation == trace.ConnectionAborted
	})
}

func TestARefusedHandshakeSaysFromWhere(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		resp, _ := r.handshake(dial{addr: addr, noToken: true})
		if resp.StatusCode != 401 {
			t.Fatal(resp.Status)
		}
		eventually(t, "a record", func() bool { return len(r.records(trace.Filter{Level: trace.Warning})) > 0 })
		recs := r.records(trace.Filter{Level: trace.Warning})
		if rec := recs[len(recs)-1]; rec.Operation != trace.ConnectionRefused || rec.CallerIP != "127.0.0.1" || rec.URL != "/client/hubs/chat" || rec.Method != "GET" || rec.Collection() != "Authorization" {
			t.Errorf("%+v", rec)
		}
	})
}
