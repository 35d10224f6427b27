package hub

// A Count is how busy a hub is at the moment.
type Count struct {
	Instance, Hub string // lower case
	Connections   int
	// QueuedFrames and QueuedBytes wait in the queues of its connections; Deepest is the longest of these, in frames.
	QueuedFrames, QueuedBytes, Deepest int
}

// Counts looks at every connection of every hub that has had one. It takes each queue's lock for a moment, so it is for
// whoever asks now and then.
func (r *Registry) Counts() []Count {
	var list []Count
	for _, h := range *r.hubs.Load() {
		c := Count{Instance: h.instance, Hub: h.name}
		h.Each(func(conn *Conn) bool {
			frames, bytes := conn.out.waiting()
			c.Connections++
			c.QueuedFrames += frames
			c.QueuedBytes += bytes
			c.Deepest = max(c.Deepest, frames)
			return true
		})
		list = append(list, c)
	}
	return list
}

// waiting is how much is queued. What a reliable connection keeps until it is acknowledged is no part of it.
func (q *queue) waiting() (frames, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.len(), q.size
}
