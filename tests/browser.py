"""Chromium without a window, controlled by the DevTools protocol through a pipe."""

import base64
import itertools
import json
import os
import select
import subprocess
import time

OPTIONS = (
    *('--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-sync'),
    *('--disable-background-networking', '--disable-component-update'),
    *('--disable-dev-shm-usage', '--remote-debugging-pipe'),
)


class Browser:
    """One page of a browser.

    Args:
        program (str): Path of Chromium.
        profile (Path): Empty folder for its profile.
    """

    def __init__(self, program, profile):
        command, self._requests = os.pipe()
        self._answers, answers = os.pipe()

        def connect():  # the protocol is at the file descriptors 3 and 4
            os.dup2(os.dup(command), 3)
            os.dup2(os.dup(answers), 4)

        self._process = subprocess.Popen(
            [program, *OPTIONS, f'--user-data-dir={profile}', '--window-size=1300,1000'],
            close_fds=False,
            preexec_fn=connect,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command)
        os.close(answers)
        self._numbers = itertools.count(1)
        self._session = None
        self._rest = b''
        self.events = []
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        attached = self.call('Target.attachToTarget', targetId=target, flatten=True)
        self._session = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')

    def call(self, method, **params):
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        request = dict(id=number, method=method, params=params)
        if self._session:
            request['sessionId'] = self._session
        os.write(self._requests, json.dumps(request).encode() + b'\0')
        while True:
            message = self._read()
            if message.get('id') == number:
                assert 'error' not in message, message
                return message['result']
            self.events.append(message)

    def _read(self, timeout=120):
        while b'\0' not in self._rest:
            readable, _, _ = select.select([self._answers], [], [], timeout)
            assert readable, 'the browser does not answer'
            chunk = os.read(self._answers, 1 << 20)
            assert chunk, 'the browser has ended'
            self._rest += chunk
        message, self._rest = self._rest.split(b'\0', 1)
        return json.loads(message)

    def evaluate(self, script):
        """Return the value of a JavaScript expression."""
        found = self.call(
            'Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True
        )
        assert 'exceptionDetails' not in found, found
        return found['result'].get('value')

    def wait_for(self, script, seconds=60):
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.evaluate(script):
                return value
            time.sleep(0.1)
        raise AssertionError(f'{script} after {seconds} s; page: {self.text()}')

    def text(self):
        """Return the text of the page as a user sees it."""
        return self.evaluate('document.body.innerText')

    def drop(self, selector, *paths):
        """Drop files onto an element, as a user does with the mouse."""
        box = self.evaluate(
            f'(({{x, y, width, height}}) => [x + width / 2, y + height / 2])'
            f'(document.querySelector({selector!r}).getBoundingClientRect())'
        )
        data = dict(items=[], files=[str(path) for path in paths], dragOperationsMask=1)
        for kind in ('dragEnter', 'dragOver', 'drop'):
            self.call('Input.dispatchDragEvent', type=kind, x=box[0], y=box[1], data=data)

    def screenshot(self):
        """Return the visible part of the page as the content of a PNG file."""
        return base64.b64decode(self.call('Page.captureScreenshot')['data'])

    def problems(self):
        """Return what the browser logged: errors of scripts, refused or failed requests."""
        kinds = ('Runtime.exceptionThrown', 'Log.entryAdded', 'Network.loadingFailed')
        return [event for event in self.events if event.get('method') in kinds]

    def requested(self):
        """Return the URLs of all requests."""
        return [
            event['params']['request']['url']
            for event in self.events
            if event.get('method') == 'Network.requestWillBeSent'
        ]

    def close(self):
        """End the browser."""
        self._process.terminate()
        self._process.wait(30)
        os.close(self._requests)
        os.close(self._answers)
