package conform

// Lines about streams, invocations and group states, in JSON.
var streamChecks = map[int]check{
	63: {given: "a stream start with permission", then: "streamAck with expectedSequenceId 1 comes first", run: func(t *trial) {
		t.json(dial{roles: everything}).startStream(t.name("g"), 0)
	}},
	64: {given: "streamData 1 and then 1 again", then: "one delivery and streamAck 2", run: func(t *trial) {
		g := t.name("g")
		p, member := t.json(dial{roles: everything}), t.json(dial{groups: []string{g}})
		p.startStream(g, 0)
		for range 2 {
			p.send(`{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"text","data":"one"}`)
			p.gets(`{"type":"streamAck","streamId":"s","expectedSequenceId":2}`)
		}
		member.gets(`{"type":"message","group":%q,"data":"one","stream":{"streamId":"s","streamSequenceId":1}}`, g)
		member.hearsNothing()
	}},
	65: {given: "streamData 3 when 2 is expected", then: "streamNack InvalidSequenceId expecting 2, and no delivery", run: func(t *trial) {
		g := t.name("g")
		p, member := t.json(dial{roles: everything}), t.json(dial{groups: []string{g}})
		p.startStream(g, 0)
		p.send(`{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"text","data":"one"}`)
		p.gets(`{"type":"streamAck","expectedSequenceId":2}`)
		p.send(`{"type":"streamData","streamId":"s","streamSequenceId":3,"dataType":"text","data":"three"}`)
		p.gets(`{"type":"streamNack","streamId":"s","name":"InvalidSequenceId","expectedSequenceId":2}`)
		member.gets(`{"data":"one"}`)
		member.hearsNothing()
	}},
	66: {given: "streamEnd", then: "subscribers get endOfStream and the publisher streamClosed without error", run: func(t *trial) {
		g := t.name("g")
		p, member := t.json(dial{roles: everything}), t.json(dial{groups: []string{g}})
		p.startStream(g, 0)
		p.send(`{"type":"streamEnd","streamId":"s"}`)
		got := p.gets(`{"type":"streamClosed","streamId":"s"}`)
		t.check(got["error"] == nil, "streamClosed has the error %v", got["error"])
		member.gets(`{"type":"message","stream":{"streamId":"s","streamSequenceId":1,"endOfStream":true}}`)
	}},
	67: {given: "a stream without activity for its idleTimeoutMs", then: "streamClosed IdleTimeout and a terminal message", run: func(t *trial) {
		g := t.name("g")
		p, member := t.json(dial{roles: everything}), t.json(dial{groups: []string{g}})
		p.startStream(g, 500)
		p.gets(`{"type":"streamClosed","streamId":"s","error":{"name":"IdleTimeout"}}`)
		member.gets(`{"stream":{"streamId":"s","endOfStream":true,"error":{"name":"IdleTimeout"}}}`)
	}},
	68: {given: "invoke and a handler that answers", then: "one invokeResponse with the invocationId, success, dataType and data", needs: handler, run: func(t *trial) {
		p := t.json(dial{})
		p.send(`{"type":"invoke","invocationId":"i1","target":"event","event":"echo","dataType":"text","data":"ping"}`)
		p.gets(`{"type":"invokeResponse","invocationId":"i1","success":true,"dataType":"text","data":"ping"}`)
		p.hearsNothing()
	}},
	69: {given: "subscribeGroupState, then another member's setGroupState", then: "ack and groupStateSnapshot, then groupStateUpdate", run: func(t *trial) {
		g := t.name("g")
		p, other := t.json(dial{roles: everything, groups: []string{g}}), t.json(dial{roles: everything, groups: []string{g}})
		p.send(`{"type":"subscribeGroupState","group":%q,"ackId":1}`, g)
		p.acked(1)
		p.gets(`{"type":"groupStateSnapshot","group":%q}`, g)
		other.send(`{"type":"setGroupState","group":%q,"ackId":1,"state":{"status":"typing"}}`, g)
		got := p.gets(`{"type":"groupStateUpdate","group":%q}`, g)
		items, _ := got["items"].([]any)
		t.check(len(items) == 1 && contains(items[0], map[string]any{"connectionId": other.id, "state": map[string]any{"status": "typing"}}), "items %v", items)
	}},
}

// startStream opens the stream s; idle is in milliseconds, 0 stands for five minutes.
func (p *peer) startStream(group string, idle int) {
	if idle == 0 {
		idle = 300_000
	}
	p.send(`{"type":"sendToGroup","group":%q,"stream":{"streamId":"s","idleTimeoutMs":%d}}`, group, idle)
	p.gets(`{"type":"streamAck","streamId":"s","expectedSequenceId":1}`)
}
