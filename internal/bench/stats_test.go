package bench

import (
	"math"
	"testing"
	"time"
)

func TestPercentilesAreWithinAThirtySecond(t *testing.T) {
	var h histogram
	for i := 1; i <= 100_000; i++ {
		h.add(time.Duration(i) * time.Microsecond)
	}
	got := h.percentiles()
	for name, pair := range map[string][2]float64{"p50": {got.P50, 50_000}, "p90": {got.P90, 90_000}, "p99": {got.P99, 99_000}, "max": {got.Max, 100_000}} {
		if math.Abs(pair[0]-pair[1]) > pair[1]/32 {
			t.Errorf("%s is %.0f µs, want %.0f", name, pair[0], pair[1])
		}
	}
	if empty := (&histogram{}).percentiles(); empty != (Percentiles{}) {
		t.Errorf("of nothing: %+v", empty)
	}
}

func TestEveryDurationFallsIntoItsBucket(t *testing.T) {
	for _, d := range []time.Duration{-1, 0, 1, 31, 32, 33, 63, 64, 1000, 999_999, time.Second, time.Minute, 30 * time.Minute} {
		i := bucketOf(d)
		if d > upper(i) || i > 0 && d <= upper(i-1) {
			t.Errorf("%v is in bucket %d, which ends at %v after %v", d, i, upper(i), upper(max(i-1, 0)))
		}
	}
}

func TestMessagesHaveTheirLengthAndReadBack(t *testing.T) {
	for _, n := range []int{minPayload, 128, 5000} {
		text := message{number: 12345, due: 987654321 * time.Nanosecond}.text(n)
		number, rest, ok := cutNumber([]byte(text))
		due, _, ok2 := cutNumber(rest)
		if len(text) != n || !ok || !ok2 || number != 12345 || due != 987654321 {
			t.Errorf("%d bytes: %q", n, text)
		}
	}
	for _, bad := range []string{"", "|", "a|", "12", "1a|"} {
		if n, _, ok := cutNumber([]byte(bad)); ok {
			t.Errorf("%q reads as %d", bad, n)
		}
	}
}

func TestOurOwnProcessHasCosts(t *testing.T) {
	if self().rss() <= 0 {
		return // no /proc on this system
	}
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
		_ = math.Sqrt(2)
	}
	if self().cpu() <= 0 || process(0).cpu() != 0 || process(0).rss() != 0 {
		t.Errorf("cpu %v", self().cpu())
	}
}
