package clientws

// ackMemory is how many ids of successful requests a connection remembers (client protocol, section 8.4; the
// number is the emulator's).
const ackMemory = 1000

// An acked remembers the latest successful ack ids. Clients count, so neighbours in time are neighbours in number
// and are kept as one run; a thousand ids usually take 16 bytes.
type acked struct {
	runs  []run // oldest first
	total int   // ids in runs
	max   uint64
}

type run struct {
	first uint64
	n     uint32
}

func (a *acked) has(id uint64) bool {
	if a.total == 0 || id > a.max {
		return false
	}
	for i := len(a.runs) - 1; i >= 0; i-- {
		if r := a.runs[i]; id >= r.first && id-r.first < uint64(r.n) {
			return true
		}
	}
	return false
}

// add notes an id that is not remembered and forgets the oldest one if there are too many.
func (a *acked) add(id uint64) {
	a.max = max(a.max, id)
	if last := len(a.runs) - 1; last >= 0 && id != 0 && a.runs[last].first+uint64(a.runs[last].n) == id {
		a.runs[last].n++
	} else {
		a.runs = append(a.runs, run{id, 1})
	}
	if a.total++; a.total > ackMemory {
		a.total--
		a.runs[0].first++
		if a.runs[0].n--; a.runs[0].n == 0 {
			a.runs = append(a.runs[:0], a.runs[1:]...)
		}
	}
}
