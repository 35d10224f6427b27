package dataplane

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"tabard/internal/hub"
)

// MaxBody bounds the body of a request in bytes. Azure publishes no limit; its emulator has this one.
const MaxBody = 1 << 20

// message reads the body and the headers of a send. The order of the checks is the emulator's: length, media type,
// JSON, metadata.
func (c *call) message(ttl time.Duration) (*hub.Message, *answer) {
	if c.r.ContentLength > MaxBody {
		return nil, refusal(invalidLength())
	}
	kind, charset, ok := dataType(c.r.Header["Content-Type"])
	if !ok {
		return nil, refusal(unsupportedMediaType())
	}
	data, refused := readBody(c.r)
	if refused != nil {
		return nil, refused
	}
	if charset != nil {
		var err error
		if data, err = charset.NewDecoder().Bytes(data); err != nil {
			return nil, refusal(badRequest("The request body is not text in the charset of its Content-Type."))
		}
	}
	switch {
	case kind == hub.JSON && !(json.Valid(data) && utf8.Valid(data)):
		return nil, refusal(invalidJSON())
	case kind == hub.Text && !utf8.Valid(data): // no client could receive it
		return nil, refusal(badRequest("The request body is not text in the charset of its Content-Type."))
	}
	metadata, refused := readMetadata(c.r.Header)
	if refused != nil {
		return nil, refused
	}
	return &hub.Message{Group: c.group, Type: kind, Data: data, Metadata: metadata, TTL: ttl}, nil
}

// readBody reads a body of known or unknown length.
func readBody(r *http.Request) ([]byte, *answer) {
	if r.ContentLength > MaxBody {
		return nil, refusal(invalidLength())
	}
	if n := r.ContentLength; n >= 0 {
		data := make([]byte, n)
		if _, err := io.ReadFull(r.Body, data); err != nil {
			return nil, refusal(badRequest("The request body ended too early."))
		}
		return data, nil
	}
	data, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, MaxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, refusal(bodyTooLarge())
	case err != nil:
		return nil, refusal(badRequest("The request body ended too early."))
	}
	return data, nil
}

// charsets are the ones that .NET knows without help, by their lower-case names; nil: UTF-8 already.
var charsets = map[string]encoding.Encoding{
	"": nil, "utf-8": nil, "utf8": nil, "us-ascii": nil, "ascii": nil,
	"iso-8859-1": charmap.ISO8859_1, "latin1": charmap.ISO8859_1,
	"utf-16": unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), "utf-16le": unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM),
	"utf-16be": unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM),
}

// dataType turns the Content-Type of a send into the type of the message. Without one the message is binary.
func dataType(contentType []string) (kind hub.DataType, charset encoding.Encoding, ok bool) {
	if len(contentType) == 0 {
		return hub.Binary, nil, true
	}
	if len(contentType) > 1 {
		return 0, nil, false
	}
	switch contentType[0] { // what SDKs send, without the cost of parsing
	case "text/plain", "text/plain; charset=utf-8", "text/plain;charset=UTF-8":
		return hub.Text, nil, true
	case "application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8":
		return hub.JSON, nil, true
	case "application/octet-stream", "":
		return hub.Binary, nil, true
	}
	mediaType, params, err := mime.ParseMediaType(contentType[0])
	if err != nil {
		return 0, nil, false
	}
	switch mediaType {
	case "text/plain":
		kind = hub.Text
	case "application/json":
		kind = hub.JSON
	case "application/octet-stream":
		return hub.Binary, nil, true
	default:
		return 0, nil, false
	}
	charset, ok = charsets[strings.ToLower(params["charset"])]
	return kind, charset, ok
}

// Limits of metadata (client-protocols.md 14), in bytes.
const (
	metadataPrefix   = "X-Webpubsub-Metadata-" // as net/http writes it
	maxMetadataKey   = 256
	maxMetadataValue = 1024
	maxMetadata      = 8192
)

// readMetadata collects the headers X-WebPubSub-Metadata-{key}: the key in lower case, of several values the last.
func readMetadata(h http.Header) ([]hub.Pair, *answer) {
	var pairs []hub.Pair
	total := 0
	for name, values := range h {
		if !strings.HasPrefix(name, metadataPrefix) {
			continue
		}
		key := strings.ToLower(name[len(metadataPrefix):])
		value := values[len(values)-1]
		value = strings.TrimSpace(value[strings.LastIndexByte(value, ',')+1:])
		total += len(key) + len(value)
		switch {
		case key == "":
			return nil, refusal(badRequest("A metadata header has no key."))
		case len(key) > maxMetadataKey:
			return nil, refusal(badRequest("A metadata key exceeds %d bytes.", maxMetadataKey))
		case strings.ContainsFunc(value, func(r rune) bool { return r >= utf8.RuneSelf }):
			return nil, refusal(badRequest("Metadata value for key '%s' must be ASCII.", key))
		case len(value) > maxMetadataValue:
			return nil, refusal(badRequest("Metadata value for key '%s' exceeds %d bytes.", key, maxMetadataValue))
		case total > maxMetadata:
			return nil, refusal(badRequest("Metadata exceeds %d bytes.", maxMetadata))
		}
		pairs = append(pairs, hub.Pair{Key: key, Value: value})
	}
	slices.SortFunc(pairs, func(a, b hub.Pair) int { return strings.Compare(a.Key, b.Key) })
	return pairs, nil
}
