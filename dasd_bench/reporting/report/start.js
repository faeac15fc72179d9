startTheme();
startPrinting();
startHome();
startTables();
start("token-viewer", "tv-status", tokenViewer);
start("answer-viewer", "av-status", answerViewer);
