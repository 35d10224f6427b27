package subprotocol

import (
	"math"
	"time"
)

// invoke reads a request whose answer is correlated by the client's own id (section 12). Data and its type come
// together or not at all.
func (f *fields) invoke(req *Request) error {
	req.Kind = Invoke
	var ok bool
	req.Invocation, _ = text(f.invocationID)
	if err := checkInvocation(req.Invocation); err != nil {
		return err
	}
	if target, ok := text(f.target); present(f.target) && (!ok || target != "event") {
		return invalid("target must be \"event\"")
	}
	if req.Event, ok = text(f.event); !ok || !ValidEvent(req.Event) {
		return errEvent
	}
	if err := f.readMetadata(req); err != nil {
		return err
	}
	if !present(f.dataType) && f.data == nil {
		req.NoData = true
		return nil
	}
	return f.payload(req)
}

// streamStart reads a sendToGroup that begins a stream (section 11).
func (f *fields) streamStart(req *Request) error {
	req.Kind = StreamStart
	if f.stream[0] != '{' {
		return invalid("stream must be an object")
	}
	if f.data != nil || present(f.dataType) || req.HasAck {
		return invalid("the start of a stream has neither data nor ackId")
	}
	if err := f.readNoEcho(req); err != nil {
		return err
	}
	err := eachMember(f.stream, func(name, value []byte) error {
		switch string(name) {
		case "streamId":
			req.Stream, _ = text(value)
		case "idleTimeoutMs":
			if null(value) {
				return nil
			}
			ms, ok := number(value)
			if !ok || ms == 0 || ms > math.MaxUint32 {
				return invalid("idleTimeoutMs must be a number from 1 to 4294967295")
			}
			req.IdleTimeout = time.Duration(ms) * time.Millisecond
		}
		return nil
	})
	if err != nil {
		return err
	}
	return checkStream(req.Stream)
}

// streamData reads a part of a stream, or the sign that it goes on: number, type and data come together or not at
// all.
func (f *fields) streamData(req *Request) error {
	req.Kind = StreamData
	req.Stream, _ = text(f.streamID)
	if err := checkStream(req.Stream); err != nil {
		return err
	}
	if !present(f.streamSequence) && !present(f.dataType) && f.data == nil {
		req.NoData = true
		return nil
	}
	var ok bool
	if req.StreamSequence, ok = number(f.streamSequence); !ok || req.StreamSequence == 0 {
		return invalid("streamSequenceId must be a positive number")
	}
	if !present(f.dataType) || f.data == nil {
		return invalid("a part of a stream needs dataType and data")
	}
	return f.payload(req)
}

func (f *fields) streamEnd(req *Request) error {
	req.Kind = StreamEnd
	req.Stream, _ = text(f.streamID)
	if err := checkStream(req.Stream); err != nil {
		return err
	}
	if !present(f.failure) {
		return nil
	}
	if f.failure[0] != '{' {
		return invalid("error must be an object")
	}
	req.StreamError = &StreamError{}
	err := eachMember(f.failure, func(name, value []byte) error {
		var field *string
		switch string(name) {
		case "message":
			field = &req.StreamError.Message
		case "userErrorCode":
			field = &req.StreamError.UserCode
		}
		if field == nil || null(value) {
			return nil
		}
		var ok bool
		if *field, ok = text(value); !ok {
			return invalid("message and userErrorCode must be strings")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return checkStreamError(req.StreamError)
}

// groupState reads the state of a setGroupState: an object of strings; without one the state is cleared.
func (f *fields) groupState(req *Request) error {
	if !present(f.state) {
		return nil
	}
	if f.state[0] != '{' {
		return invalid("state must be an object of strings")
	}
	req.State = map[string]string{}
	err := eachMember(f.state, func(name, value []byte) error {
		v, ok := text(value)
		if !ok {
			return invalid("state must be an object of strings")
		}
		req.State[string(name)] = v
		return nil
	})
	if err != nil {
		return err
	}
	return checkState(req.State)
}
