package trace

import (
	"encoding/json"
	"time"
)

// A Synthetic is an event that nobody sent: R/hubs/{hub}/trigger delivers it like one of a client, through the same
// rules, with the same headers and token. Exactly one of Data, JSON and Base64 may be set; none is an empty body.
type Synthetic struct {
	Event      string  `json:"event"`                  // "message" by default; connect, connected and disconnected with System
	System     bool    `json:"systemEvent,omitempty"`  // a system event
	User       string  `json:"userId,omitempty"`       // ce-userId
	Connection string  `json:"connectionId,omitempty"` // ce-connectionId; a fresh id by default
	Data       *string `json:"data,omitempty"`         // text

	JSON   json.RawMessage `json:"json,omitempty"`   // any JSON value
	Base64 []byte          `json:"base64,omitempty"` // binary
}

// Triggered is what became of a [Synthetic].
type Triggered struct {
	Record Record  `json:"record"`
	Answer *Answer `json:"answer,omitempty"` // nil: nobody was asked
}

// An Answer is what a handler said, for those who may see it: its body is as it came, up to MaxContent.
type Answer struct {
	Status      int           `json:"status"` // 0: there was no answer
	ContentType string        `json:"contentType,omitempty"`
	Body        []byte        `json:"body,omitempty"` // base64
	Truncated   bool          `json:"truncated,omitempty"`
	Duration    time.Duration `json:"durationNs"`
}

// A Comparison is what a replay came to: the record of the repetition beside the first one.
type Comparison struct {
	Original Record `json:"original"`
	Replayed Record `json:"replayed"`
	Answer   Answer `json:"answer"` // of the repetition
	// Same tells which parts of the answers are equal. Of the first answer at most MaxAnswer bytes are known; SameBody is
	// about those, and the length.
	SameStatus      bool `json:"sameStatus"`
	SameContentType bool `json:"sameContentType"`
	SameBody        bool `json:"sameBody"`
	// Token says whether the repetition carried one, and if not, why.
	Token string `json:"token"`
	// RuleChanged says that the hub's rule for the event is another one now than it was.
	RuleChanged bool `json:"ruleChanged,omitempty"`
}
