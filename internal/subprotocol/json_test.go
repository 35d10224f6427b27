package subprotocol

import (
	"bytes"
	encoding "encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"tabard/internal/hub"
)

func TestRequestsAreDecoded(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       Request
	}{
		{"join", `{"type":"joinGroup","group":"g","ackId":1}`, Request{Kind: JoinGroup, Group: "g", HasAck: true, AckID: 1}},
		{"leave without ackId", `{"type":"leaveGroup","group":"g"}`, Request{Kind: LeaveGroup, Group: "g"}},
		{"ackId 0", `{"type":"joinGroup","group":"g","ackId":0}`, Request{Kind: JoinGroup, Group: "g", HasAck: true}},
		{"the largest ackId", `{"type":"joinGroup","group":"g","ackId":18446744073709551615}`, Request{Kind: JoinGroup, Group: "g", HasAck: true, AckID: 1<<64 - 1}},
		{"ackId null is none", `{"type":"joinGroup","group":"g","ackId":null}`, Request{Kind: JoinGroup, Group: "g"}},
		{"type in another case", `{"type":"JOINGROUP","group":"g"}`, Request{Kind: JoinGroup, Group: "g"}},
		{"white space everywhere", " \r\n{ \"type\" :\t\"joinGroup\" , \"group\" : \"g\" } \n", Request{Kind: JoinGroup, Group: "g"}},
		{"escapes in names and values", `{"\u0074ype":"join\u0047roup","group":"g\u00e9\n\"\\"}`, Request{Kind: JoinGroup, Group: "gé\n\"\\"}},
		{"unknown members of every kind", `{"x":{"a":[1,"}]",{"b":"\\"}],"type":"no"},"y":[],"z":-1.5e3,"t":true,"n":null,"type":"ping","e":""}`, Request{Kind: Ping}},
		{"property names are exact", `{"Group":"x","type":"joinGroup","group":"g","AckId":7}`, Request{Kind: JoinGroup, Group: "g"}},
		{"the last of repeated members", `{"type":"event","type":"joinGroup","group":"a","group":"b"}`, Request{Kind: JoinGroup, Group: "b"}},
		{"send of the example", `{"type":"sendToGroup","group":"g1","ackId":1,"noEcho":true,"dataType":"json","data":{"x":1}}`,
			Request{Kind: SendToGroup, Group: "g1", HasAck: true, AckID: 1, NoEcho: true, Type: hub.JSON, Data: []byte(`{"x":1}`)}},
		{"json is the default, byte for byte", `{"type":"sendToGroup","group":"g","data": {"a" : 1.0e+2, "b":[ 12345678901234567890 ] } }`,
			Request{Kind: SendToGroup, Group: "g", Type: hub.JSON, Data: []byte(`{"a" : 1.0e+2, "b":[ 12345678901234567890 ] }`)}},
		{"json number at the end", `{"type":"sendToGroup","group":"g","data":1e3}`, Request{Kind: SendToGroup, Group: "g", Type: hub.JSON, Data: []byte(`1e3`)}},
		{"json string keeps its quotes", `{"type":"sendToGroup","group":"g","data":"a\u0041"}`, Request{Kind: SendToGroup, Group: "g", Type: hub.JSON, Data: []byte(`"a\u0041"`)}},
		{"text", `{"type":"sendToGroup","group":"g","dataType":"Text","data":"a\u0041é"}`, Request{Kind: SendToGroup, Group: "g", Type: hub.Text, Data: []byte("aAé")}},
		{"empty text", `{"type":"sendToGroup","group":"g","dataType":"text","data":""}`, Request{Kind: SendToGroup, Group: "g", Type: hub.Text, Data: []byte{}}},
		{"binary", `{"type":"sendToGroup","group":"g","dataType":"binary","data":"AQL/"}`, Request{Kind: SendToGroup, Group: "g", Type: hub.Binary, Data: []byte{1, 2, 255}}},
		{"binary with padding", `{"type":"sendToGroup","group":"g","dataType":"binary","data":"AQ=="}`, Request{Kind: SendToGroup, Group: "g", Type: hub.Binary, Data: []byte{1}}},
		{"protobuf, an Any", `{"type":"sendToGroup","group":"g","dataType":"protobuf","data":"CgN0L3gSAQE="}`,
			Request{Kind: SendToGroup, Group: "g", Type: hub.Protobuf, Data: []byte("\n\x03t/x\x12\x01\x01")}},
		{"ttl", `{"type":"sendToGroup","group":"g","data":1,"ttlSeconds":300}`, Request{Kind: SendToGroup, Group: "g", Type: hub.JSON, Data: []byte("1"), TTL: 300 * time.Second}},
		{"event", `{"type":"event","event":"a.b-c_1","dataType":"text","data":"x","ackId":2,"metadata":{"k":"v","K":""}}`,
			Request{Kind: Event, Event: "a.b-c_1", Type: hub.Text, Data: []byte("x"), HasAck: true, AckID: 2, Metadata: []hub.Pair{{Key: "k", Value: "v"}, {Key: "K"}}}},
		{"metadata alone is an empty text", `{"type":"event","event":"e","metadata":{"k":"v"}}`, Request{Kind: Event, Event: "e", Type: hub.Text, Data: []byte{}, Metadata: []hub.Pair{{Key: "k", Value: "v"}}}},
		{"nulls where something is optional", `{"type":"event","event":"e","data":0,"metadata":null,"dataType":null,"ackId":null}`, Request{Kind: Event, Event: "e", Type: hub.JSON, Data: []byte("0")}},
		{"an event has no echo and no ttl", `{"type":"event","event":"e","data":0,"noEcho":1,"ttlSeconds":-1}`, Request{Kind: Event, Event: "e", Type: hub.JSON, Data: []byte("0")}},
		{"stream start", `{"type":"sendToGroup","group":"g","noEcho":true,"stream":{"streamId":"s","idleTimeoutMs":300000}}`,
			Request{Kind: StreamStart, Group: "g", NoEcho: true, Stream: "s", IdleTimeout: 300 * time.Second}},
		{"stream start, null is absent", `{"type":"sendToGroup","group":"g","ackId":null,"stream":{"streamId":"s","idleTimeoutMs":null}}`, Request{Kind: StreamStart, Group: "g", Stream: "s"}},
		{"stream null is none", `{"type":"sendToGroup","group":"g","stream":null,"data":1}`, Request{Kind: SendToGroup, Group: "g", Type: hub.JSON, Data: []byte("1")}},
		{"a part", `{"type":"streamData","streamId":"s","streamSequenceId":7,"dataType":"text","data":"x"}`, Request{Kind: StreamData, Stream: "s", StreamSequence: 7, Type: hub.Text, Data: []byte("x")}},
		{"a sign of life", `{"type":"streamData","streamId":"s"}`, Request{Kind: StreamData, Stream: "s", NoData: true}},
		{"a good end", `{"type":"streamEnd","streamId":"s"}`, Request{Kind: StreamEnd, Stream: "s"}},
		{"a bad end", `{"type":"streamEnd","streamId":"s","error":{"message":"m","userErrorCode":"c","name":1}}`, Request{Kind: StreamEnd, Stream: "s", StreamError: &StreamError{"m", "c"}}},
		{"invoke", `{"type":"invoke","invocationId":"1","target":"event","event":"ev","dataType":"text","data":"ping"}`,
			Request{Kind: Invoke, Invocation: "1", Event: "ev", Type: hub.Text, Data: []byte("ping")}},
		{"invoke without data", `{"type":"invoke","invocationId":"1","event":"ev"}`, Request{Kind: Invoke, Invocation: "1", Event: "ev", NoData: true}},
		{"cancel", `{"type":"cancelInvocation","invocationId":"1"}`, Request{Kind: CancelInvocation, Invocation: "1"}},
		{"set state", `{"type":"setGroupState","group":"g","ackId":1,"state":{"status":"typing"}}`, Request{Kind: SetGroupState, Group: "g", HasAck: true, AckID: 1, State: map[string]string{"status": "typing"}}},
		{"clear state", `{"type":"setGroupState","group":"g"}`, Request{Kind: SetGroupState, Group: "g"}},
		{"watch", `{"type":"subscribeGroupState","group":"g","ackId":2}`, Request{Kind: SubscribeGroupState, Group: "g", HasAck: true, AckID: 2}},
		{"watch no more", `{"type":"unsubscribeGroupState","group":"g"}`, Request{Kind: UnsubscribeGroupState, Group: "g"}},
		{"sequenceAck", `{"type":"sequenceAck","sequenceId":5}`, Request{Kind: SequenceAck, Sequence: 5}},
		{"sequenceAck in quotes", `{"type":"sequenceAck","sequenceId":"5"}`, Request{Kind: SequenceAck, Sequence: 5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Request{Group: "left over"}
			if err := JSON.Decode(&got, hub.OpText, []byte(test.text)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestRequestsThatAreNotExactlyRightAreRefused(t *testing.T) {
	big := func(n, size int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d":"%s",`, i, strings.Repeat("v", size))
		}
		return "{" + strings.TrimSuffix(b.String(), ",") + "}"
	}
	send := func(rest string) string { return `{"type":"sendToGroup","group":"g",` + rest + `}` }
	for name, text := range map[string]string{
		"empty":                        ``,
		"white space":                  `  `,
		"not JSON":                     `{"type":"ping"`,
		"two values":                   `{"type":"ping"}{}`,
		"an array":                     `[{"type":"ping"}]`,
		"a string":                     `"ping"`,
		"null":                         `null`,
		"not UTF-8":                    "{\"type\":\"ping\",\"x\":\"\xff\"}",
		"no type":                      `{}`,
		"type is a number":             `{"type":1}`,
		"unknown type":                 `{"type":"dance"}`,
		"join without group":           `{"type":"joinGroup"}`,
		"group is a number":            `{"type":"joinGroup","group":1}`,
		"empty group":                  `{"type":"joinGroup","group":""}`,
		"blank group":                  `{"type":"joinGroup","group":" \t"}`,
		"long group":                   `{"type":"joinGroup","group":"` + strings.Repeat("g", 1025) + `"}`,
		"ackId in quotes":              `{"type":"joinGroup","group":"g","ackId":"1"}`,
		"negative ackId":               `{"type":"joinGroup","group":"g","ackId":-1}`,
		"ackId with a fraction":        `{"type":"joinGroup","group":"g","ackId":1.0}`,
		"ackId over uint64":            `{"type":"joinGroup","group":"g","ackId":18446744073709551616}`,
		"no data":                      send(`"dataType":"text"`),
		"json null":                    send(`"data":null`),
		"text that is a number":        send(`"dataType":"text","data":1`),
		"text that is null":            send(`"dataType":"text","data":null`),
		"binary that is no base64":     send(`"dataType":"binary","data":"%"`),
		"base64 without padding":       send(`"dataType":"binary","data":"AQ"`),
		"binary that is an object":     send(`"dataType":"binary","data":{}`),
		"protobuf that is no Any":      send(`"dataType":"protobuf","data":"CgQ="`),
		"unknown dataType":             send(`"dataType":"xml","data":"x"`),
		"dataType is a number":         send(`"dataType":1,"data":"x"`),
		"noEcho in quotes":             send(`"data":1,"noEcho":"true"`),
		"noEcho null":                  send(`"data":1,"noEcho":null`),
		"ttl over 300":                 send(`"data":1,"ttlSeconds":301`),
		"negative ttl":                 send(`"data":1,"ttlSeconds":-1`),
		"ttl in quotes":                send(`"data":1,"ttlSeconds":"1"`),
		"stream start with data":       send(`"data":1,"stream":{"streamId":"s"}`),
		"stream start with ackId":      send(`"ackId":1,"stream":{"streamId":"s"}`),
		"stream start without id":      send(`"stream":{}`),
		"stream that is a string":      send(`"stream":"s"`),
		"stream id over 256":           send(`"stream":{"streamId":"` + strings.Repeat("s", 257) + `"}`),
		"stream without patience":      send(`"stream":{"streamId":"s","idleTimeoutMs":0}`),
		"stream of an event":           `{"type":"event","event":"e","stream":{"streamId":"s"}}`,
		"part without its number":      `{"type":"streamData","streamId":"s","dataType":"text","data":"x"}`,
		"part number 0":                `{"type":"streamData","streamId":"s","streamSequenceId":0,"dataType":"text","data":"x"}`,
		"part without type":            `{"type":"streamData","streamId":"s","streamSequenceId":1,"data":"x"}`,
		"part without data":            `{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"text"}`,
		"part of no stream":            `{"type":"streamData"}`,
		"end with an error in words":   `{"type":"streamEnd","streamId":"s","error":"e"}`,
		"end with a number as code":    `{"type":"streamEnd","streamId":"s","error":{"userErrorCode":1}}`,
		"end with a long error":        `{"type":"streamEnd","streamId":"s","error":{"message":"` + strings.Repeat("m", 1025) + `"}}`,
		"invoke without id":            `{"type":"invoke","target":"event","event":"e"}`,
		"invoke of something else":     `{"type":"invoke","invocationId":"1","target":"group","event":"e"}`,
		"invoke without event":         `{"type":"invoke","invocationId":"1","target":"event"}`,
		"invoke with a type alone":     `{"type":"invoke","invocationId":"1","target":"event","event":"e","dataType":"text"}`,
		"cancel of nothing":            `{"type":"cancelInvocation"}`,
		"state that is a list":         `{"type":"setGroupState","group":"g","state":[]}`,
		"state with a number":          `{"type":"setGroupState","group":"g","state":{"a":1}}`,
		"state over 8192":              `{"type":"setGroupState","group":"g","state":{"a":"` + strings.Repeat("x", 8192) + `"}}`,
		"state of no group":            `{"type":"subscribeGroupState"}`,
		"metadata is an array":         send(`"data":1,"metadata":[]`),
		"metadata value is a number":   send(`"data":1,"metadata":{"a":1}`),
		"metadata key with a space":    send(`"data":1,"metadata":{"a b":"1"}`),
		"metadata key that is empty":   send(`"data":1,"metadata":{"":"1"}`),
		"metadata key over 256":        send(`"data":1,"metadata":{"` + strings.Repeat("k", 257) + `":"1"}`),
		"metadata value over 1024":     send(`"data":1,"metadata":` + big(1, 1025)),
		"metadata value not ASCII":     send(`"data":1,"metadata":{"a":"é"}`),
		"metadata over 8192":           send(`"data":1,"metadata":` + big(9, 1000)),
		"metadata key twice":           send(`"data":1,"metadata":{"a":"1","a":"2"}`),
		"event without name":           `{"type":"event","data":1}`,
		"event that begins with digit": `{"type":"event","event":"1a","data":1}`,
		"event with a slash":           `{"type":"event","event":"a/b","data":1}`,
		"event over 128":               `{"type":"event","event":"` + strings.Repeat("e", 129) + `","data":1}`,
		"sequenceAck without number":   `{"type":"sequenceAck"}`,
		"sequenceAck with text":        `{"type":"sequenceAck","sequenceId":"x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			var req Request
			err := JSON.Decode(&req, hub.OpText, []byte(text))
			var bad *InvalidError
			if !errors.As(err, &bad) || bad.Code != hub.CloseInvalidData || bad.Text == "" || len(bad.Text) > 123 {
				t.Errorf("got %+v, error %v", req, err)
			}
		})
	}
}

func TestMessagesAreEncoded(t *testing.T) {
	for _, test := range []struct {
		name string
		m    hub.Message
		json string
		raw  string
		op   hub.Opcode
	}{
		{"json from a group", hub.Message{Group: "g1", FromUserID: "u1", Type: hub.JSON, Data: []byte(`{"a" : 1.0}`)},
			`{"type":"message","from":"group","group":"g1","fromUserId":"u1","dataType":"json","data":{"a" : 1.0}}`, `{"a" : 1.0}`, hub.OpText},
		{"from nobody in particular", hub.Message{Group: "g", Type: hub.JSON, Data: []byte(`"s"`)},
			`{"type":"message","from":"group","group":"g","fromUserId":null,"dataType":"json","data":"s"}`, `"s"`, hub.OpText},
		{"text from the server", hub.Message{Type: hub.Text, Data: []byte("h\"i\n\\\x01é\u2028<\xff😀")},
			`{"type":"message","from":"server","dataType":"text","data":"h\"i\n\\\u0001é` + "\u2028<\uFFFD" + `😀"}`, "h\"i\n\\\x01é\u2028<\xff😀", hub.OpText},
		{"binary", hub.Message{Type: hub.Binary, Data: []byte{1, 2, 255, 254}},
			`{"type":"message","from":"server","dataType":"binary","data":"AQL//g=="}`, "\x01\x02\xff\xfe", hub.OpBinary},
		{"protobuf", hub.Message{Type: hub.Protobuf, Data: []byte{1}},
			`{"type":"message","from":"server","dataType":"protobuf","data":"AQ=="}`, "\x01", hub.OpBinary},
		{"metadata", hub.Message{Type: hub.Text, Metadata: []hub.Pair{{Key: "a", Value: "1"}, {Key: "b", Value: `"`}}},
			`{"type":"message","from":"server","dataType":"text","data":"","metadata":{"a":"1","b":"\""}}`, "", hub.OpText},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, op := JSON.AppendMessage([]byte("before"), &test.m)
			if string(got) != "before"+test.json || op != hub.OpText {
				t.Errorf("got  %s\nwant %s", got, test.json)
			}
			if !encoding.Valid(got[len("before"):]) {
				t.Error("not valid JSON")
			}
			if got, op := Raw.AppendMessage(nil, &test.m); string(got) != test.raw || op != test.op {
				t.Errorf("raw: got %q as %v", got, op)
			}
		})
	}
}

func TestServiceFrames(t *testing.T) {
	for name, test := range map[string]struct {
		frame *hub.Frame
		want  string
	}{
		"ack":       {JSON.Ack(1<<64-1, nil), `{"type":"ack","ackId":18446744073709551615,"success":true}`},
		"failed":    {JSON.Ack(1, &AckError{Forbidden, "no \"x\""}), `{"type":"ack","ackId":1,"success":false,"error":{"name":"Forbidden","message":"no \"x\""}}`},
		"pong":      {JSON.Pong(), `{"type":"pong"}`},
		"connected": {JSON.Connected("c", "u", ""), `{"type":"system","event":"connected","userId":"u","connectionId":"c"}`},
		"anonymous": {JSON.Connected("c", "", ""), `{"type":"system","event":"connected","userId":null,"connectionId":"c"}`},
	} {
		if want := hub.NewFrame(hub.OpText, []byte(test.want)); !reflect.DeepEqual(test.frame, want) {
			t.Errorf("%s: got %v, want %v", name, test.frame, want)
		}
	}
	if got, _ := JSON.AppendDisconnected(nil, "why"); string(got) != `{"type":"system","event":"disconnected","message":"why"}` {
		t.Errorf("got %s", got)
	}
	if got, _ := Raw.AppendDisconnected(nil, "why"); len(got) != 0 || Raw.Connected("c", "u", "t") != nil || Raw.Ack(1, nil) != nil || Raw.Pong() != nil {
		t.Error("a simple client must get no system frames")
	}
}

func TestProtocolsAreFoundByName(t *testing.T) {
	if p, ok := ByName("JSON.webpubsub.azure.V1"); !ok || p != JSON || p.Name() != "json.webpubsub.azure.v1" || p.Simple() {
		t.Error("JSON is not found")
	}
	for _, name := range []string{"", "json", "custom"} {
		if _, ok := ByName(name); ok {
			t.Errorf("%q is no protocol", name)
		}
	}
	if !Raw.Simple() || Raw.Name() != "" || Raw.Encoding() == JSON.Encoding() {
		t.Error("raw is not what it should be")
	}
}

func TestRawFramesAreTheEventMessage(t *testing.T) {
	for op, typ := range map[hub.Opcode]hub.DataType{hub.OpText: hub.Text, hub.OpBinary: hub.Binary} {
		var req Request
		if err := Raw.Decode(&req, op, []byte("x")); err != nil || !reflect.DeepEqual(req, Request{Kind: Event, Event: "message", Type: typ, Data: []byte("x")}) {
			t.Errorf("got %+v, %v", req, err)
		}
	}
}

// FuzzDecodeJSON holds the decoder against the standard library's view of the same text.
func FuzzDecodeJSON(f *testing.F) {
	for _, s := range []string{
		`{"type":"sendToGroup","group":"g","data":{"a":[1,"\"}"]},"metadata":{"k":"v"},"ackId":1,"ttlSeconds":3}`,
		`{"type":"event","event":"e","dataType":"binary","data":"AQI="}`,
		`{"type":"event","event":"e","dataType":"protobuf","data":"CgN0L3gSAQE="}`,
		`{"type":"sequenceAck","sequenceId":"5"} `, `{"type":"ping"}`, `[]`, `{"":0}`, `{"type":"joinGroup","group":"\ud800"}`,
		`{"type":"invoke","invocationId":"1","target":"event","event":"e","dataType":"text","data":"x"}`, `{"type":"cancelInvocation","invocationId":"1"}`,
		`{"type":"sendToGroup","group":"g","noEcho":true,"stream":{"streamId":"s","idleTimeoutMs":5}}`,
		`{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"json","data":[1]}`, `{"type":"streamData","streamId":"s"}`,
		`{"type":"streamEnd","streamId":"s","error":{"message":"m","userErrorCode":null}}`,
		`{"type":"setGroupState","group":"g","ackId":1,"state":{"a":"\u0000"}}`, `{"type":"subscribeGroupState","group":"g"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text := bytes.Clone(data)
		var req Request
		err := JSON.Decode(&req, hub.OpText, data)
		if !bytes.Equal(text, data) {
			t.Fatal("the text was changed")
		}
		var members map[string]encoding.RawMessage
		if encoding.Unmarshal(text, &members) != nil || members == nil {
			if err == nil {
				t.Fatal("accepted what is no JSON object")
			}
			return
		}
		if err != nil {
			return
		}
		var kind string
		if encoding.Unmarshal(members["type"], &kind) != nil {
			t.Fatal("accepted a type that is no string")
		}
		switch req.Kind {
		case SendToGroup, Event:
			if req.Type == hub.JSON && !bytes.Equal(req.Data, members["data"]) {
				t.Errorf("payload %q, want %q", req.Data, members["data"])
			}
			m := &hub.Message{Group: req.Group, Type: req.Type, Data: req.Data, Metadata: req.Metadata}
			if out, _ := JSON.AppendMessage(nil, m); !encoding.Valid(out) {
				t.Errorf("encoded as %q", out)
			}
			fallthrough
		case JoinGroup, LeaveGroup, SubscribeGroupState, UnsubscribeGroupState:
			var group string
			encoding.Unmarshal(members["group"], &group)
			if req.Kind != Event && (req.Group != group || !hub.ValidGroup(group)) {
				t.Errorf("group %q, want %q", req.Group, group)
			}
		case StreamStart, StreamData, StreamEnd:
			if req.Stream == "" || len(req.Stream) > MaxStreamID || req.IdleTimeout < 0 || req.Kind == StreamData && req.NoData != (req.StreamSequence == 0) {
				t.Errorf("accepted the stream %+v", req)
			}
			m := &hub.Message{Group: "g", Type: req.Type, Data: req.Data, Stream: &hub.StreamInfo{ID: req.Stream, Sequence: req.StreamSequence}}
			if req.StreamError != nil {
				m.Stream.Error = &hub.StreamError{Message: req.StreamError.Message, UserCode: req.StreamError.UserCode}
			}
			if req.NoData || req.Kind != StreamData {
				m.Type = hub.Text
			}
			if out, _ := JSON.AppendMessage(nil, m); !encoding.Valid(out) {
				t.Errorf("encoded as %q", out)
			}
		case Invoke, CancelInvocation:
			if req.Invocation == "" || len(req.Invocation) > MaxInvocationID || req.Kind == Invoke && !ValidEvent(req.Event) {
				t.Errorf("accepted the invocation %+v", req)
			}
		case SetGroupState:
			var state map[string]string
			if encoding.Unmarshal(members["state"], &state); !maps.Equal(state, req.State) {
				t.Errorf("state %q, want %q", req.State, state)
			}
			out, _ := JSON.(hub.StateCodec).AppendGroupState(nil, req.Group, []hub.StateItem{{ConnectionID: "c", State: req.State}}, true)
			if !encoding.Valid(out) {
				t.Errorf("encoded as %q", out)
			}
		}
	})
}

func BenchmarkDecodeJSON(b *testing.B) {
	text := []byte(`{"type":"sendToGroup","group":"group","ackId":17,"noEcho":false,"dataType":"json","data":{"text":"` + strings.Repeat("x", 100) + `","n":[1,2,3]}}`)
	var req Request
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := JSON.Decode(&req, hub.OpText, text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeJSON(b *testing.B) {
	m := &hub.Message{Group: "group", FromUserID: "user", Type: hub.Text, Data: bytes.Repeat([]byte("x"), 128)}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = JSON.AppendMessage(buf[:0], m)
	}
}
